"""A page that segments a picture in the browser, without a server."""
