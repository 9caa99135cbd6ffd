"""Reports that commands store on this machine, and that the server shows in its console."""
