"""The model's side. A question goes from left to right, its answer comes back the same way:

client (which endpoint, how often) → endpoint (one try: connection, deadlines) → completions | responses | dify
                                      └ hearing (one reply) ← events (its bytes), growing (its visible text)

``places`` says which endpoints there are, ``profile`` what each of them takes, ``breaker`` whether it is worth a try,
``failures`` what its refusals mean. ``asking`` is what is asked and answered, whatever the dialect.
"""
