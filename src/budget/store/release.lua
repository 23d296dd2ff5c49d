-- Gives back one of each, once however often it is asked to.
--
-- KEYS: a mark of this refund, and after it the hash of each. ARGV: for how many seconds the mark
-- is kept, and the field of each. What is gone meanwhile stays gone.
if redis.call('SET', KEYS[1], 1, 'NX', 'EX', ARGV[1]) then
  for i = 2, #KEYS do
    if tonumber(redis.call('HGET', KEYS[i], ARGV[i]) or 0) > 0 then
      redis.call('HINCRBY', KEYS[i], ARGV[i], -1)
    end
  end
end
return {}
