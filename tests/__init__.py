"""The tests, and in `support` what they share: a test imports nothing else from here."""
