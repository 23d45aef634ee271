"""Programs around the server: measuring it and warming it. Nothing in `zcserve` imports from here."""
