"""The steps of live trading that must be one: Lua that the server runs, or does not run, as a whole.

Writing a ring, counting its ``seq``, telling subscribers and handing on entries happen together: nobody sees one
without the others, a server that is killed in between has none of them in its file, and of two writers the one whose
lease is gone is refused. Not here: sending them (``live``), the layout of a ring (``rings``).

After each start of the server, and where a ring is not there, a ``seq`` goes on at the server's time in milliseconds if
that is more: whatever was lost before, it never comes back.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name the server keeps it under."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest())


_RING = r"""
local HEADER, ROW, MAGIC = 32, 76, 'MDR1'
local function milliseconds()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function header_of(key)
  local text = redis.call('GETRANGE', key, 0, HEADER - 1)
  if #text < HEADER then return nil end
  local magic, size, seq, newest, written = struct.unpack('<c4I4i8i8i8', text)
  if magic ~= MAGIC then return nil end
  return {size = size, seq = seq, newest = newest, written = written}
end
local function pack_header(size, seq, newest, written)
  return struct.pack('<c4I4i8i8i8', MAGIC, size, seq, newest, written)
end
local function least_seq(key)
  local known = redis.call('GET', key)
  return known and tonumber(string.match(known, ':(%d+)$')) or milliseconds()
end
local function tell(channel, seq, rest)
  redis.call('PUBLISH', channel, '{"seq":' .. string.format('%.0f', seq) .. rest)
end
local function hand_on(first)
  for i = first, #ARGV do redis.call('XADD', KEYS[3], '*', 'e', ARGV[i]) end
  if #ARGV >= first and redis.call('XLEN', KEYS[3]) > tonumber(ARGV[2]) then
    local lost = redis.call('XTRIM', KEYS[3], 'MAXLEN', '~', ARGV[2])
    if lost > 0 then
      redis.call('INCRBY', KEYS[4], lost)
      redis.call('SADD', KEYS[5], 'entries/lost')
    end
  end
end
local function require_lease()
  local holder = redis.call('GET', KEYS[1])
  if ARGV[1] ~= '' and holder and holder ~= ARGV[1] then return redis.error_reply('HELD ' .. holder) end
end
"""

# Run on each new connection. KEYS: the mark. ARGV: which start of the server this is. Sets from where each seq goes on.
MARK = Script(
    _RING
    + r"""
local known = redis.call('GET', KEYS[1])
if known and string.sub(known, 1, #ARGV[1] + 1) == ARGV[1] .. ':' then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. string.format('%.0f', milliseconds()))
return 1
"""
)

# KEYS: the lease, the mark, the entries, the count of lost ones, the names of what is said, the ring of each change.
# ARGV: holder ('' for none), most entries, size, written, number of changes, then for each change its open time,
# length, row, channel and rest of its message, channel and rest of the buffer's message ('' for none); then entries.
PUBLISH = Script(
    _RING
    + r"""
local refused = require_lease()
if refused then return refused end
local size, written, changes, made = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), 0
local least = least_seq(KEYS[2])

-- Another size is wanted: every row that still counts moves to its new place.
local function resize(key, old, slot)
  local text, rows = redis.call('GET', key), {}
  for i = 1, size + 1 do rows[i] = string.rep('\0', ROW) end
  local oldest = old.newest - math.min(size, old.size) * slot
  for i = 0, old.size do
    local row = string.sub(text, HEADER + i * ROW + 1, HEADER + (i + 1) * ROW)
    local open = struct.unpack('<i8', row)
    if open >= oldest and open <= old.newest and string.byte(row, 75) > 0 then
      rows[(open / slot) % (size + 1) + 1] = row
    end
  end
  redis.call('SET', key, pack_header(size, old.seq, old.newest, old.written) .. table.concat(rows))
  old.size = size
end

local function write(key, at)
  local open, slot, row = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
  local ring = header_of(key)
  if not ring then
    made = made + 1
    ring = {size = size, seq = milliseconds() - 1, newest = 0, written = 0}
    redis.call('SET', key, pack_header(size, ring.seq, 0, 0) .. string.rep('\0', ROW * (size + 1)))
  elseif ring.size ~= size then
    resize(key, ring, slot)
  end
  if open < ring.newest - size * slot then return end
  local offset = HEADER + (open / slot) % (size + 1) * ROW
  if redis.call('GETRANGE', key, offset, offset + ROW - 1) == row then return end
  local seq = math.max(ring.seq + 1, least)
  redis.call('SETRANGE', key, 0, pack_header(size, seq, math.max(open, ring.newest), written))
  redis.call('SETRANGE', key, offset, row)
  tell(ARGV[at + 3], seq, ARGV[at + 4])
  if ARGV[at + 6] ~= '' then tell(ARGV[at + 5], seq, ARGV[at + 6]) end
end

for i = 1, changes do write(KEYS[5 + i], 6 + (i - 1) * 7) end
hand_on(6 + changes * 7)
return made
"""
)

# KEYS: the lease, the mark, then the rings. ARGV: holder, size, written, then
# for each ring its newest open time, rows, channel and rest of the buffer's message.
REWRITE = Script(
    _RING
    + r"""
local refused = require_lease()
if refused then return refused end
for i = 3, #KEYS do
  local at = 4 + (i - 3) * 4
  local old = header_of(KEYS[i])
  local seq = old and math.max(old.seq + 1, least_seq(KEYS[2])) or milliseconds()
  local header = pack_header(tonumber(ARGV[2]), seq, tonumber(ARGV[at]), tonumber(ARGV[3]))
  redis.call('SET', KEYS[i], header .. ARGV[at + 1])
  tell(ARGV[at + 2], seq, ARGV[at + 3])
end
return 0
"""
)

# KEYS: the entries. ARGV: group, consumer, at most, milliseconds after which others count as gone.
# Each live run is a consumer of its own: those that are done and idle are forgotten when they become many.
# Gives the id after which to wait for more, and {id, body} of each; what was dropped meanwhile is acknowledged.
TAKE = Script(
    r"""
local key, group, consumer, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('EXISTS', key) == 0 then return {'0-0', {}} end
redis.pcall('XGROUP', 'CREATE', key, group, '0')
local taken, seen = {}, {}
local function keep(found)
  for _, one in ipairs(found) do
    local id, fields = one[1], one[2]
    if type(fields) ~= 'table' then redis.call('XACK', key, group, id)
    elseif not seen[id] and #taken < most then
      seen[id] = true
      taken[#taken + 1] = {id, fields[2]}
    end
  end
end
local function read(from)
  local found = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most - #taken, 'STREAMS', key, from)
  if found then keep(found[1][2]) end
end
read('0')
local cursor = '0-0'
while #taken < most do
  local found = redis.call('XAUTOCLAIM', key, group, consumer, ARGV[4], cursor, 'COUNT', most - #taken)
  keep(found[2])
  cursor = found[1]
  if cursor == '0-0' then break end
end
if #taken < most then read('>') end
local consumers = redis.call('XINFO', 'CONSUMERS', key, group)
for i = 1, #consumers > 8 and #consumers or 0 do
  local name, pending = consumers[i][2], consumers[i][4]
  if name ~= consumer and pending == 0 then redis.call('XGROUP', 'DELCONSUMER', key, group, name) end
end
local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
return {newest and newest[1] or '0-0', taken}
"""
)

# KEYS: the entries. ARGV: group, then ids.
ACKNOWLEDGE = Script(
    r"""
local ids = {unpack(ARGV, 2)}
redis.pcall('XACK', KEYS[1], ARGV[1], unpack(ids))
return redis.call('XDEL', KEYS[1], unpack(ids))
"""
)

# KEYS: the lease. ARGV: holder, milliseconds, '1' where one that lapsed may be taken.
# A holder that asks again, or renews, extends it.
HOLD = Script(
    r"""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if holder then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
if ARGV[3] ~= '1' then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
)

# KEYS: the lease. ARGV: holder.
FREE = Script(
    r"""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
)

# KEYS: the names, where it is said. ARGV: name, what is said, milliseconds.
TELL = Script(
    r"""
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return redis.call('SADD', KEYS[1], ARGV[1])
"""
)

# KEYS: the names. ARGV: what a key begins with, what a name begins with. Gives name, what is said, name, …
TOLD = Script(
    r"""
local found = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if string.sub(name, 1, #ARGV[2]) == ARGV[2] then
    local said = redis.call('GET', ARGV[1] .. name)
    if said then
      found[#found + 1] = name
      found[#found + 1] = said
    else
      redis.call('SREM', KEYS[1], name)
    end
  end
end
return found
"""
)
