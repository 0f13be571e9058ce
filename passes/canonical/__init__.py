"""Normal forms: views, maps, masks, axes that are split and joined, normalisers in full."""
