"""Work that waits for a person: cases and their alerts, refused posts, unknown events, and more."""
