"""Look at pictures: image sets to arrays, by networks, a judge and commands."""
