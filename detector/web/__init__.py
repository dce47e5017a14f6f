"""The page in the browser and its JSON API: a server for one machine, safe against hostile images and other sites."""
