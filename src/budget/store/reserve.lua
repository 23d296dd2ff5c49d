-- Takes one of every budget, or of none.
--
-- KEYS: a hash each, of one budget in one window. ARGV, four of each: the field of the caller,
-- how many there are, the first second of the window and the first after it.
-- Answers {0, used of each}; {1, place} when that has nothing left; {2, second} when it is another
-- window by this server's clock, which is the one that counts.
local now = tonumber(redis.call('TIME')[1])
-- A refund may come a while after the end.
local grace = 3600

local function claim(i)
  return ARGV[4 * i - 3], tonumber(ARGV[4 * i - 2]), tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
end

for i, key in ipairs(KEYS) do
  local field, most, start, over = claim(i)
  if now < start or now >= over then
    return {2, now}
  end
  if tonumber(redis.call('HGET', key, field) or 0) >= most then
    return {1, i}
  end
end

local answer = {0}
for i, key in ipairs(KEYS) do
  local field, _, _, over = claim(i)
  answer[i + 1] = redis.call('HINCRBY', key, field, 1)
  redis.call('EXPIREAT', key, over + grace)
end
return answer
