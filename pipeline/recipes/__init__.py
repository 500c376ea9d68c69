"""What is trained and how: settings, search spaces, and the rows of heads, networks, schemes and presets."""
