-- Decides a request against all of its quotas: all take, or none does. The rules and their rounding are the engine's; see
-- docs/engine.md for them and docs/redis.md for the arguments. Replies are integers.
--
-- KEYS  one for each quota
-- ARGV  operation, then one for each quota: a letter and little-endian doubles, which are read faster than texts. They are
--       the amount, two parameters, the cost, and to refund the three numbers of the receipt.
--   "m" moving window, "f" fixed window   window in ticks, tick in microseconds
--   "s" sliding-window counter            window in microseconds, 0
--   "g" GCRA                              interval in units of 64 ns, 0
-- A state begins with a serial number that never comes back while anybody may hold a receipt with it; a state of nothing else
-- holds no hits.
local RING = 61
local UNITS_PER_S = 15625000
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local pack, unpack_state, sub = struct.pack, struct.unpack, string.sub

local time = redis.call('TIME')
local second, microsecond = time[1] + 0, time[2] + 0
local now = second * 1000000 + microsecond

-- Whether a * b < c * d, exactly: a and c below 2^21, b and d below 2^52.
local function is_less(a, b, c, d)
    local b_low, d_low = b % 67108864, d % 67108864
    return (a * ((b - b_low) / 67108864) - c * ((d - d_low) / 67108864)) * 67108864 + (a * b_low - c * d_low) < 0
end

-- Each of these answers: whether the cost fits, what remains, when all is whole again, when it will fit (-1: never),
-- the state that a hit leaves behind, for how many microseconds it matters, and the hit's receipt. `remaining` and `reset`
-- are those after the hit; a peek takes nothing.

-- serial, sum of all counts, then stamp and count of each entry, oldest first; the last is the head.
local function moving_window(value, amount, window, tick, cost, is_peek)
    local passed = floor(now / tick)
    local serial, used, size, first = now, 0, 0, 13
    if value then
        serial, size = unpack_state('<d', value), #value
    end
    local newest, head, latest = -window, 0, -window
    if size > 8 then
        newest, head = unpack_state('<dI4', value, size - 11)
        if newest - passed > window then
            -- The server's clock has gone back by more than a window. To wait for it would lock the key for as long.
            newest = -window
        end
    end
    local is_live = passed - newest < window
    if is_live then
        used = unpack_state('<I4', value, 9)
        while first < size - 11 do
            local stamp, units = unpack_state('<dI4', value, first)
            if passed - stamp < window and units > 0 then
                break
            end
            used = used - units
            first = first + 12
        end
        -- Of the newest entry that counts anything: what was refunded is waited for by nobody.
        latest = newest
        local units, at = head, size - 23
        while units == 0 and at >= first do
            latest, units = unpack_state('<dI4', value, at)
            at = at - 12
        end
    end
    if cost > amount or used > amount - cost then
        local retry, release, newer = -1, newest, head
        if cost <= amount then
            -- From the newest on, entries fit until there is no room for the cost beside them: the last that did not is awaited.
            for at = size - 23, first, -12 do
                local stamp, units = unpack_state('<dI4', value, at)
                if units > 0 then
                    if newer > amount - cost then
                        break
                    end
                    release = stamp
                    newer = newer + units
                end
            end
            retry = max((release + window) * tick - now, 0)
        end
        return false, amount - min(amount, used), used == 0 and 0 or max((latest + window) * tick - now, 0), retry
    end
    if is_peek then
        return true, amount - used, used == 0 and 0 or max((latest + window) * tick - now, 0), 0
    end
    local stamp = max(ceil(now / tick), newest)
    local reset = (stamp + window) * tick - now
    if not is_live then
        if value then
            serial = serial + 1
        end
        return true, amount - cost, reset, 0, pack('<dI4dI4', serial, cost, stamp, cost), reset, serial, 0, 0
    end
    local last, units = size - 12, head + cost
    if head > 0 and stamp ~= newest and size - first < 12 * RING - 1 then
        local quantum = amount <= RING and 1 or ceil(window / (RING - 1))
        if stamp - newest >= quantum or floor(stamp / quantum) ~= floor(newest / quantum) then
            last, units, serial = size, cost, serial + 1
        end
    end
    used = used + cost
    value = pack('<dI4', serial, used) .. sub(value, first, last) .. pack('<dI4', stamp, units)
    return true, amount - used, reset, 0, value, reset, serial, 0, 0
end

local function fixed_window(value, amount, window, tick, cost, is_peek)
    local passed, begun = floor(now / tick), ceil(now / tick)
    local serial, start, count = now, -window, 0
    if value then
        serial = unpack_state('<d', value)
        if #value > 8 then
            start, count = unpack_state('<dI4', value, 9)
        end
    end
    if start - passed > window then
        start, count = -window, 0
    end
    if count == 0 or passed - start >= window then
        start, count = max(begun, start), 0
    end
    local wait = max((start + window) * tick - now, 0)
    if cost > amount or count > amount - cost then
        return false, amount - min(amount, count), count == 0 and 0 or wait, cost > amount and -1 or wait
    end
    if is_peek then
        return true, amount - count, count == 0 and 0 or wait, 0
    end
    if value and count == 0 then
        serial = serial + 1
    end
    return true, amount - count - cost, wait, 0, pack('<ddI4', serial, start, count + cost), wait, serial, 0, 0
end

-- The state at present: serial, window number, previous and current count, and the rest of the window.
local function read_sliding(value, window)
    local number, rest = floor(now / window), window - now % window
    if not value then
        return now, number, 0, 0, rest
    end
    local serial = unpack_state('<d', value)
    if #value == 8 then
        return serial, number, 0, 0, rest
    end
    local written, previous, current = unpack_state('<dI4I4', value, 9)
    if written == number + 1 then
        return serial, written, previous, current, window
    elseif written == number then
        return serial, number, previous, current, rest
    end
    return serial, number, written == number - 1 and current or 0, 0, rest
end

-- The longest rest of a window with which `count` hits of the window before weigh no more than `room`.
local function rest_for(count, room, window)
    local rest = floor((room + 1) * window / count + 0.5)
    return is_less(count, rest, room + 1, window) and rest or rest - 1
end

local function sliding_window(value, amount, window, _, cost, is_peek)
    local serial, number, previous, current, rest = read_sliding(value, window)
    local weight = floor(previous * rest / window + 0.5)
    if is_less(previous, rest, weight, window) then
        weight = weight - 1
    end
    local used = weight + current
    if cost > amount or used > amount - cost then
        local reset = current > 0 and rest + window or previous > 0 and rest or 0
        local retry, room = -1, amount - cost
        if cost <= amount then
            retry = current <= room and rest - rest_for(previous, room - current, window)
                or rest + window - rest_for(current, room, window)
        end
        return false, amount - min(amount, used), reset, retry
    end
    if is_peek then
        return true, amount - used, current > 0 and rest + window or previous > 0 and rest or 0, 0
    end
    if value and previous + current == 0 then
        serial = serial + 1
    end
    local reset = rest + window
    return true, amount - used - cost, reset, 0, pack('<ddI4I4', serial, number, previous, current + cost), reset, serial,
        number, 0
end

-- Units from now to an arrival time; 0 when it has passed.
local function busy_until(seconds, units)
    return max((seconds - second) * UNITS_PER_S + units - floor(microsecond * 125 / 8), 0)
end

local function arrival_after(busy)
    local units = floor(microsecond * 125 / 8) + busy
    local seconds = floor(units / UNITS_PER_S)
    return second + seconds, units - seconds * UNITS_PER_S
end

local function gcra(value, amount, interval, _, cost, is_peek)
    local burst = interval * amount
    local serial, busy = now, 0
    if value then
        serial = unpack_state('<d', value)
        if #value > 8 then
            busy = busy_until(unpack_state('<dd', value, 9))
        end
    end
    if busy > 2 * burst then
        busy = 0
    end
    local remaining = busy >= burst and 0 or floor((burst - busy) / interval)
    if cost > amount then
        return false, remaining, busy, -1
    end
    local later = busy + cost * interval
    if later > burst then
        return false, remaining, busy, later - burst
    end
    if is_peek then
        return true, remaining, busy, 0
    end
    if value and remaining == amount then
        serial = serial + 1
    end
    local seconds, units = arrival_after(later)
    return true, floor((burst - later) / interval), later, 0, pack('<ddd', serial, seconds, units), later * 8 / 125, serial,
        seconds, units
end

local rules = {m = moving_window, f = fixed_window, s = sliding_window, g = gcra}

-- The state without `cost` of the hit that got this receipt; nil when there is nothing to give back.
local function refunded(value, strategy, amount, window, tick, cost, receipt, number, units)
    if not value or #value == 8 then
        return nil
    end
    local serial = unpack_state('<d', value)
    if strategy == 'm' then
        local at = #value - 11 - 12 * (serial - receipt)
        if at < 13 or at + 11 > #value then
            return nil
        end
        local stamp, taken = unpack_state('<dI4', value, at)
        if taken < cost or floor(now / tick) - stamp >= window then
            return nil
        end
        local used = unpack_state('<I4', value, 9)
        return pack('<dI4', serial, used - cost) .. sub(value, 13, at - 1) .. pack('<dI4', stamp, taken - cost)
            .. sub(value, at + 12)
    elseif serial ~= receipt then
        return nil
    elseif strategy == 'f' then
        local start, count = unpack_state('<dI4', value, 9)
        if count < cost or floor(now / tick) - start >= window then
            return nil
        end
        return pack('<ddI4', serial, start, count - cost)
    elseif strategy == 's' then
        local _, current_number, previous, current = read_sliding(value, window)
        local since = current_number - number
        if since == 0 and current >= cost then
            return pack('<ddI4I4', serial, current_number, previous, current - cost)
        elseif since == 1 and previous >= cost then
            return pack('<ddI4I4', serial, current_number, previous - cost, current)
        end
        return nil
    end
    -- GCRA: hits drain in their order, so what is left of this one lies before its own arrival time.
    local at_seconds, at_units = unpack_state('<dd', value, 9)
    local busy = busy_until(at_seconds, at_units)
    local left = min(cost * window, busy_until(number, units))
    if left <= 0 or busy < left then
        return nil
    end
    if at_seconds ~= number or at_units ~= units then
        -- Hits after this one drain earlier now than their receipts say.
        serial = serial + 1
    end
    return pack('<ddd', serial, arrival_after(busy - left))
end

local operation = ARGV[1]

if operation == 'reset' then
    for _, key in ipairs(KEYS) do
        local value = redis.call('GET', key)
        if value then
            redis.call('SET', key, pack('<d', unpack_state('<d', value) + 1), 'KEEPTTL')
        end
    end
    return 1
end

if operation == 'refund' then
    local any = 0
    for i = #KEYS, 1, -1 do
        local value = refunded(redis.call('GET', KEYS[i]), unpack_state('<c1ddddddd', ARGV[i + 1]))
        if value then
            redis.call('SET', KEYS[i], value, 'KEEPTTL')
            any = 1
        end
    end
    return any
end

local is_peek, is_reservation = operation == 'peek', operation == 'reserve'
local receipts, written, lifetimes = {}, {}, {}
-- Of those that refuse, the one that does so longest is reported; when none does, the one with the least remaining.
local is_allowed, index, least, longest, its_reset, its_retry = true, 0, nil, -1, 0, 0
local values = #KEYS > 1 and redis.call('MGET', unpack(KEYS)) or {redis.call('GET', KEYS[1])}
for i, key in ipairs(KEYS) do
    local letter, amount, window, tick, cost = unpack_state('<c1dddd', ARGV[i + 1])
    local allowed, remaining, reset, retry, value, lifetime, serial, number, units =
        rules[letter](written[key] or values[i], amount, window, tick, cost, is_peek)
    if not allowed then
        -- Each quota has a unit of time of its own.
        local wait = retry == -1 and math.huge or retry * (letter == 'g' and 64 or 1000)
        if wait > longest then
            index, least, longest, its_reset, its_retry = i - 1, remaining, wait, reset, retry
        end
        is_allowed = false
    elseif is_allowed then
        if not least or remaining < least then
            index, least, its_reset = i - 1, remaining, reset
        end
        written[key], lifetimes[key] = value, lifetime
        if is_reservation then
            receipts[3 * i - 2], receipts[3 * i - 1], receipts[3 * i] = serial, number, units
        end
    end
end
if not is_allowed then
    return {0, index, least, its_reset, its_retry}
end
for key, value in pairs(written) do
    redis.call('SET', key, value, 'PX', ceil(lifetimes[key] / 1000) + 1)
end
if is_reservation then
    return {1, index, least, its_reset, 0, unpack(receipts)}
end
return {1, index, least, its_reset, 0}
