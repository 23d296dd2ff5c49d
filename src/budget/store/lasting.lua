-- How long what is written here lasts. KEYS[1] names the server of a cluster that is asked.
-- Answers whether it keeps an append-only file, and whether it never evicts; -1 of what it does not
-- tell.
local function told(section, pattern, good)
  local info = redis.pcall('INFO', section)
  local found = type(info) == 'string' and string.match(info, pattern)
  return found and (found == good and 1 or 0) or -1
end

return {
  told('persistence', 'aof_enabled:(%d)', '1'),
  told('memory', 'maxmemory_policy:([%w-]+)', 'noeviction'),
}
