"""Whether data that came in are still of the kind that an adapter was trained on."""
