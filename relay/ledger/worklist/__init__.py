"""What waits for a person: cases and whom they are told to, faults, refused posts, releases."""
