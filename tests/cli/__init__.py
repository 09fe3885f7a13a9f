"""`flask relay …`, as admins and the team use it."""
