"""The studio's pages, one file each: what it shows, and what can be asked of it."""
