"""What is remembered: files on disk, rows in the database."""
