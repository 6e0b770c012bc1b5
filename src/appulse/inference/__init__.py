"""From an image to realisations: background and noise, tiles, sampling, the two-step detection."""
