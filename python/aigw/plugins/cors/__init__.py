"""cors: lets pages of other origins call a route."""
