"""What the service reads into words before it believes them: hidden characters, links, rules, secrets, promises."""
