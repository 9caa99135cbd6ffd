"""What jobs read: texts of files and of callers, documents of collections, and folders of vectors."""
