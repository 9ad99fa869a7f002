"""Pictures of networks: what is shown (`picture`), where (`layered`, `scene`), and how it is written (`svg`, `png`, `page`)."""
