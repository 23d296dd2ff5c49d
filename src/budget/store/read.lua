-- Some of the fields of KEYS[1] and their numbers, as many as ARGV[1] or some more.
return redis.call('HSCAN', KEYS[1], 0, 'COUNT', ARGV[1])[2]
