"""What is said. A chat's mail goes from left to right:

post → batch → turn ─ questions ─────────▶ answering ─▶ window, notebook, context, the chat API ─▶ speaker → delivery
                 │                         (waiting, where there is no answer now)
                 ├─ commands, buttons ──▶ acts (deeds decides what they come to)
                 └─ letters ────────────▶ acts (handoff decides what they say)

``intents`` is what handlers make of updates, ``record`` what a turn keeps, ``shown`` what a record looks like,
``parcels`` what an export looks like. ``notes`` is what a long conversation keeps of its beginning, ``remotes`` what
chat APIs keep of it. ``control`` carries an urgent call between processes, ``calls`` ends a running answer for it.
``desk`` is what all of them work with.
"""
