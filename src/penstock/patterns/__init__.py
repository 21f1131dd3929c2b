"""The patterns, a module each: done, fan, sharding, bounded, stream, backpressure."""
