"""Settings, search spaces, and the tables of heads, network recipes, schemes and presets."""
