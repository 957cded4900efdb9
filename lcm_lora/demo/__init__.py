"""A local page where one types a prompt and sees who paints what, as it is made."""
