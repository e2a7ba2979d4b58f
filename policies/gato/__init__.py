"""The Gato policy: tokens, sequence, model, training, export."""
