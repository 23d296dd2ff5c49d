-- Some of the fields of KEYS[1] and their numbers, from the cursor ARGV[1] on, ARGV[2] or some more.
-- Answers each field with its number, and then the next cursor, which is 0 at the end.
local read = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local answer = read[2]
answer[#answer + 1] = read[1]
return answer
