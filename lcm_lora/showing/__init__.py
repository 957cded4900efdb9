"""Paint on demand: a prompt, who paints it in how many steps, and all from the same noise."""
