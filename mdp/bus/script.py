"""The counting that all processes share, as one Lua script that the server runs as one step.

It keeps the same rules as :class:`mdp.domain.quota.Window`, for every scope of every quota that a request touches:
``x``, the exchange's own limit for this address; ``e``, our share of it in one environment; ``s``, the share of one
symbol of that. Not here: sending it (``count``), who waits in a process (``desk``).

The clock. No window may depend on a wall clock that a person or NTP can step. A caller sends its monotonic clock, which
all processes of a machine share, and the best lower bound it knows of (our clock - its own), gained from the times in
our answers. Our clock is the greatest of all that is known for certain to have passed. The server's ``TIME`` is only
used for the first call of a machine that is not known yet, and for the calendar minutes of an exchange.

Keys, all below ``mdp:budget:{egress:exchange@host}``: ``:state`` (hash: clock, sums, pace, cool-down, figures),
``:asked:<quota>`` (sorted set: request|cost|environment|symbol by the time at which its room is free), ``:live``
(sorted set: client|scope of live requests that wait, by the time until which that is believed), ``:clients``,
``:quotas``, ``:shares`` (hashes for people who look).
"""

from __future__ import annotations

PREFIX = "mdp:budget:"
EXCHANGES = PREFIX + "exchanges"

SCRIPT = r"""
local ask, base = cmsgpack.unpack(ARGV[1]), KEYS[1]
local TOLERATED, BURST, YOUNG = 1e-9, 0.015, 3
local state_key, live_key = base .. ':state', base .. ':live'
local state, changed = {}, {}

-- The fields that nearly every call needs come in one read; all that changed goes back in one write.
local fields = {'now', 'wall', 'epoch', 'run', 'born', 'cool', 'asked', 'ahead|' .. ask.machine}
for _, quota in ipairs(ask.quotas) do
  for _, scope in ipairs({'x|' .. quota.name, 'e|' .. quota.name .. '|' .. ask.env}) do
    fields[#fields + 1] = 'used|' .. scope
    fields[#fields + 1] = 'next|' .. scope
  end
  for _, what in ipairs({'others|', 'minute|', 'sent|', 'hold|'}) do fields[#fields + 1] = what .. quota.name end
end
for i, text in ipairs(redis.call('HMGET', state_key, unpack(fields))) do state[fields[i]] = text end

local function number(field)
  local found = state[field]
  if found == nil then
    found = redis.call('HGET', state_key, field)
    state[field] = found
  end
  return found and tonumber(found) or 0
end
local function put(field, found) state[field], changed[field] = found, true end
local function add(field, amount) put(field, math.max(0, number(field) + amount)) end
local function write()
  local pairs_ = {}
  for field in pairs(changed) do
    local found = state[field]
    pairs_[#pairs_ + 1] = field
    pairs_[#pairs_ + 1] = type(found) == 'number' and string.format('%.17g', found) or found
  end
  if #pairs_ > 0 then redis.call('HSET', state_key, unpack(pairs_)) end
end

-- The clock.
local time = redis.call('TIME')
local wall = time[1] + time[2] / 1000000
if not state.epoch then
  if not ask.hello then return redis.error_reply('EPOCH nobody said hello') end
  put('epoch', ask.hello.epoch)
end
if not ask.hello and ask.epoch ~= state.epoch then return redis.error_reply('EPOCH said hello to another server') end
local before, ahead_field = number('now'), 'ahead|' .. ask.machine
local ahead = state[ahead_field] and tonumber(state[ahead_field])
if ask.epoch == state.epoch and ask.ahead and (not ahead or ask.ahead > ahead) then
  ahead = ask.ahead
  put(ahead_field, ahead)
end
local now = before
if ahead then now = math.max(before, ask.mono + ahead)
elseif state.wall then now = before + math.max(0, wall - tonumber(state.wall)) end
put('now', now)
put('wall', wall)

-- Requests that were made: counted, and forgotten when their room is free.
local function asked_key(quota) return base .. ':asked:' .. quota.name end
local function scopes_of(quota, env, symbol)
  local scopes = {'x|' .. quota.name, 'e|' .. quota.name .. '|' .. env}
  if symbol ~= '' then scopes[3] = 's|' .. quota.name .. '|' .. env .. '|' .. symbol end
  return scopes
end
local function member(request, cost, symbol)
  return request .. '|' .. string.format('%.17g', cost) .. '|' .. ask.env .. '|' .. symbol
end
local function parse(text) return string.match(text, '^[^|]*|([^|]*)|([^|]*)|(.*)$') end
local function count(quota, request, cost, symbol, free)
  if redis.call('ZADD', asked_key(quota), free, member(request, cost, symbol)) == 1 then
    for _, scope in ipairs(scopes_of(quota, ask.env, symbol)) do add('used|' .. scope, cost) end
    return true
  end
end
local function forget(quota)
  local ended = redis.call('ZRANGEBYSCORE', asked_key(quota), '-inf', now)
  for _, text in ipairs(ended) do
    local cost, env, symbol = parse(text)
    for _, scope in ipairs(scopes_of(quota, env, symbol)) do add('used|' .. scope, -tonumber(cost)) end
  end
  if #ended > 0 then redis.call('ZREMRANGEBYSCORE', asked_key(quota), '-inf', now) end
end

-- What answers reported of a quota.
local minute_of = {}
for _, quota in ipairs(ask.quotas) do
  local minute = math.floor(wall / quota.window)
  minute_of[quota.name] = minute
  if quota.calendar and number('minute|' .. quota.name) ~= minute then
    put('minute|' .. quota.name, minute)
    put('sent|' .. quota.name, 0)
    put('others|' .. quota.name, 0)
  end
end
local function learn(quota, age, told)
  if told.left == 0 then
    local resets = told.resets >= 0 and told.resets or quota.window
    put('hold|' .. quota.name, math.max(number('hold|' .. quota.name), now - age + resets))
  end
  local at = wall - age
  local second = at % quota.window
  if quota.calendar and told.used >= 0 and math.floor(at / quota.window) == minute_of[quota.name]
      and second > 1 and second < quota.window - 1 then
    -- "sent" holds all that may have arrived, so that the difference is certainly somebody else's
    local others = told.used - number('sent|' .. quota.name)
    if others > number('others|' .. quota.name) then put('others|' .. quota.name, others) end
  end
end

-- A client that comes, or comes back: what it asked in the last windows counts before it may ask again.
if ask.hello then
  local longest = 0
  for _, quota in ipairs(ask.quotas) do
    longest = math.max(longest, quota.window + ask.timeout)
    redis.call('HSET', base .. ':quotas', quota.name, cmsgpack.pack({quota.amount, quota.window, quota.calendar}))
    redis.call('HSET', base .. ':shares', quota.name .. '|' .. ask.env, quota.share)
  end
  redis.call('SADD', 'mdp:budget:exchanges', ask.name)
  local clients = redis.call('HGETALL', base .. ':clients')
  for i = 1, #clients, 2 do
    if cmsgpack.unpack(clients[i + 1])[1] < now - 60 then redis.call('HDEL', base .. ':clients', clients[i]) end
  end
  if state.run ~= ask.hello.run then
    -- A server that was started again may have lost what was written last, or all. Those who know are on their way
    -- back; they need less than YOUNG seconds.
    local lost
    if state.run then lost = now - before < longest
    else lost = ask.epoch ~= '' or (ask.hello.uptime < YOUNG and not ask.hello.is_new) end
    put('born', lost and now or -1000000)
    put('run', ask.hello.run)
  end
end
for _, one in ipairs(ask.recalled) do
  for _, cost in ipairs(one.costs) do
    count(ask.quotas[cost[1] + 1], one.id, cost[2], one.symbol, now + one.free[cost[1] + 1])
  end
end
for _, one in ipairs(ask.answered) do
  for _, cost in ipairs(one.costs) do
    local quota = ask.quotas[cost[1] + 1]
    count(quota, one.id, cost[2], one.symbol, now - one.age + quota.window)
    if quota.calendar and one.minutes[cost[1] + 1] ~= math.floor((wall - one.age) / quota.window) then
      add('sent|' .. quota.name, cost[2])
    end
  end
  for _, told in ipairs(one.told) do learn(ask.quotas[told.quota + 1], one.age, told) end
end
for _, quota in ipairs(ask.quotas) do forget(quota) end

-- The cool-down: the longest of all calls.
for _, one in ipairs(ask.cooling) do
  add('limited', one.is_counted and 1 or 0)
  local till = now + one.seconds
  if till > number('cool') then
    put('cool', till)
    put('reason', one.reason)
  end
end
local cool = math.max(0, number('cool') - now)

-- Who may ask. What blocks one request blocks those behind it that need the same, so that none is overtaken for ever.
local function first_room(quota, scope, limit, cost)
  local needed, last = number('used|' .. scope) + cost - limit, now + quota.window
  local found = redis.call('ZRANGE', asked_key(quota), 0, 31, 'WITHSCORES')
  for i = 1, #found, 2 do
    local amount, env, symbol = parse(found[i])
    last = tonumber(found[i + 1])
    for _, one in ipairs(scopes_of(quota, env, symbol)) do
      if one == scope then needed = needed - tonumber(amount) end
    end
    if needed <= TOLERATED then break end
  end
  return math.min(math.max(last - now, 0.001), quota.window) + ask.horizon / 4
end
local live, blocked = {}, {}
if ask.live then
  for _, scope in ipairs(ask.waiting_at) do redis.call('ZREM', live_key, ask.client .. '|' .. scope) end
else
  for _, text in ipairs(redis.call('ZRANGEBYSCORE', live_key, now, '+inf')) do
    live[string.match(text, '^[^|]*|(.*)$')] = true
  end
end
local waiting_at, listed = {}, {}
local function examine(want)
  local pause, start, obstacles = 0, now, {}
  local function wait_at(scope, seconds)
    pause = math.max(pause, seconds)
    obstacles[scope] = true
  end
  for _, cost in ipairs(want.costs) do
    local quota = ask.quotas[cost[1] + 1]
    local limits = {quota.amount, quota.share, want.limits[cost[1] + 1]}
    for i, scope in ipairs(scopes_of(quota, ask.env, want.symbol)) do
      local limit = limits[i]
      local used = number('used|' .. scope) + (i == 1 and number('others|' .. quota.name) or 0)
      if blocked[scope] then wait_at(scope, blocked[scope])
      elseif live[scope] then wait_at(scope, 0.02)
      elseif number('hold|' .. quota.name) > now then wait_at(scope, number('hold|' .. quota.name) - now)
      elseif used + cost[2] > limit + TOLERATED then wait_at(scope, first_room(quota, scope, limit, cost[2])) end
      local spacing = cost[2] * quota.window / limit
      local early = number('next|' .. scope) - math.max(spacing, BURST * quota.window)
      if early > now + ask.horizon + TOLERATED then wait_at(scope, early - now - ask.horizon / 2) end
      start = math.max(start, early)
    end
  end
  return pause, start, obstacles
end
local function give(want, start)
  for _, cost in ipairs(want.costs) do
    local quota = ask.quotas[cost[1] + 1]
    local limits = {quota.amount, quota.share, want.limits[cost[1] + 1]}
    for i, scope in ipairs(scopes_of(quota, ask.env, want.symbol)) do
      local following = math.max(start, number('next|' .. scope)) + cost[2] * quota.window / limits[i]
      put('next|' .. scope, following)
    end
    count(quota, want.id, cost[2], want.symbol, now + ask.timeout + quota.window)
    if quota.calendar then add('sent|' .. quota.name, cost[2]) end
  end
  add('asked', 1)
end
local waits = {}
for i, want in ipairs(ask.wants) do
  local pause, start, obstacles = examine(want)
  if cool > 0 then waits[i] = -cool
  elseif pause > 0 then
    waits[i] = -pause
    for scope in pairs(obstacles) do
      blocked[scope] = math.max(blocked[scope] or 0, pause)
      if not listed[scope] then waiting_at[#waiting_at + 1] = scope end
      listed[scope] = true
    end
  else
    give(want, start)
    waits[i] = math.max(0, start - now)
  end
end
if ask.live then
  for _, scope in ipairs(waiting_at) do redis.call('ZADD', live_key, now + 0.6, ask.client .. '|' .. scope) end
end

-- Figures for people.
if ask.waited_s > 0 then add('waited_s', ask.waited_s) end
if ask.waits > 0 then add('waits', ask.waits) end
if ask.about ~= '' then
  redis.call('HSET', base .. ':clients', ask.client, cmsgpack.pack({now, ask.about}))
end
local room, minutes = {}, {}
for i, quota in ipairs(ask.quotas) do
  local all = quota.amount - number('used|x|' .. quota.name) - number('others|' .. quota.name)
  room[i] = math.max(0, math.min(all, quota.share - number('used|e|' .. quota.name .. '|' .. ask.env)))
  minutes[i] = minute_of[quota.name]
end
write()
return cmsgpack.pack({now = now, epoch = state.epoch, waits = waits, room = room, minutes = minutes, cool = cool,
  reason = cool > 0 and (state.reason or redis.call('HGET', state_key, 'reason')) or '',
  young = math.max(0, number('born') + YOUNG - now), waiting_at = waiting_at})
"""
