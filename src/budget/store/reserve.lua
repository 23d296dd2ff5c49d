-- Takes one of every budget, or of none.
--
-- KEYS: a hash each, of one budget in one window. ARGV, four of each: the field of the caller,
-- how many there are, the first second of the window and the first after it.
-- Answers the second that it is here, after what came of it: {0, second, used of each};
-- {1, second, place} when that has nothing left; {2, second} when it is another window by this
-- server's clock, which is the one that counts.
local now = tonumber(redis.call('TIME')[1])
-- A window is kept for a while: its refunds may come late, and a clock may have jumped.
local grace = 2 * 3600

local function claim(i)
  return ARGV[4 * i - 3], tonumber(ARGV[4 * i - 2]), tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
end

for i, key in ipairs(KEYS) do
  local field, most, start, over = claim(i)
  if now < start or now >= over then
    return {2, now}
  end
  if tonumber(redis.call('HGET', key, field) or 0) >= most then
    return {1, now, i}
  end
end

local answer = {0, now}
for i, key in ipairs(KEYS) do
  local field, _, _, over = claim(i)
  local used = redis.call('HINCRBY', key, field, 1)
  if used == 1 then
    redis.call('EXPIREAT', key, over + grace)
  end
  answer[i + 2] = used
end
return answer
