-- Takes up to ARGV[1] requests out of every limit, or out of none.
--
-- KEYS: a limit each, narrowest first; what is kept is its theoretical arrival time (GCRA), in
-- whole microseconds of this server's clock. ARGV[2..]: requests, period and tolerance of each.
-- Answers: how many were taken; the limit that has none left, counted from 1, or 0; after how
-- many microseconds it has one; and what each limit that was looked at has left.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local taken = tonumber(ARGV[1])
local arrivals, left = {}, {}

local function rate(i)
  return tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
end

for i, key in ipairs(KEYS) do
  local requests, period, tolerance = rate(i)
  local arrival = tonumber(redis.call('GET', key) or now)
  -- Never further ahead than a used-up burst: a clock that jumped keeps no one out.
  arrivals[i] = math.max(now, math.min(arrival, now + tolerance))
  local room = now + tolerance - arrivals[i]
  left[i] = math.floor(room * requests / period)
  if left[i] < 1 then
    left[i] = 0
    return {0, i, math.ceil(period / requests) - room, unpack(left)}
  end
  taken = math.min(taken, left[i])
end

local empty, wait = 0, 0
for i, key in ipairs(KEYS) do
  local requests, period, tolerance = rate(i)
  local arrival = arrivals[i] + math.ceil(taken * period / requests)
  redis.call('SET', key, string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
  local room = now + tolerance - arrival
  left[i] = math.floor(room * requests / period)
  local more = math.ceil(period / requests) - room
  if left[i] < 1 and more > wait then
    empty, wait = i, more
  end
end
return {taken, empty, wait, unpack(left)}
