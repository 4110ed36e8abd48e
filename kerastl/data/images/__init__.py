"""Pictures: found, verified, decoded, divided, augmented."""
