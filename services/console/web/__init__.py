"""The web server before Django: connections, requests and headers."""
