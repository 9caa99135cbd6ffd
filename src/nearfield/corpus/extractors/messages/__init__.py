"""Messages: e-mails and mailboxes, Outlook messages, and exported conversations."""
