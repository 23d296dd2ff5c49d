-- Gives back one of each. KEYS and ARGV: hash and field of each. What is gone meanwhile stays gone.
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('HGET', key, ARGV[i]) or 0) > 0 then
    redis.call('HINCRBY', key, ARGV[i], -1)
  end
end
return {}
