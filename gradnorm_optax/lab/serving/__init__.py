"""A trained model in use: loaded, asked about new examples, exported."""
