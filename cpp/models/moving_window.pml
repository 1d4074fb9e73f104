/*
 * One cell of the moving window: hit, refund, late callers, stamps that wrap; lives that end by a reset, and those after them.
 *
 * Every shared read and every compare-and-swap is a step of its own, so callers may be suspended, or stop for ever,
 * between any two of them. Time is in ticks; `clock` is the true time, a caller reads it once and then goes its way.
 *
 * An admission's time is the latest of the `now` that the caller passed, the floor and the newest stamp that it read: the
 * time that the guarantee speaks of. It lies between the caller's reading of the clock and its last compare-and-swap (a
 * stamp left by a cell that idled for almost a round may look later than that; the compare-and-swap is the bound).
 */

#ifndef R
#define R 2           /* ring entries */
#endif
#ifndef W
#define W 2           /* window in ticks */
#endif
#ifndef N
#define N 2           /* limit */
#endif
#ifndef Q
#define Q 1           /* quantum in ticks */
#endif
#ifndef D
#define D 1           /* ticks that a head may be ahead of the floor */
#endif
#ifndef M
#define M 8           /* stamps are counted modulo M */
#endif
#ifndef T
#define T 6           /* the clock stops here */
#endif
#ifndef PROCS
#define PROCS 2
#endif
#ifndef HITS
#define HITS 2        /* for each caller */
#endif
#ifndef REFUNDS
#define REFUNDS 0     /* for each caller, at most */
#endif
#ifndef RESETS
#define RESETS 0      /* for each caller, at most */
#endif
#ifndef REST
#define REST 2        /* ticks that a free cell rests before its positions come round */
#endif
#ifndef COSTS
#define COSTS 1       /* a hit costs 1 to COSTS */
#endif
#ifndef LAPS
#define LAPS 2        /* positions are counted modulo LAPS * R */
#endif

#define POSITIONS (LAPS * R)

#define WORD(s, c, p) ((s) | ((c) << 4) | ((p) << 7))
#define SEALED 4096
#define FREE 8192       /* its life has ended; the stamp tells when */
#define CLAIMED 16384   /* somebody prepares the next one */
#define IS_NOBODYS(x) ((x) & (FREE | CLAIMED))
#define BARRIER(g) WORD(g, 0, 31)
#define STAMP(x)    ((x) & 15)
#define COUNT(x)    (((x) >> 4) & 7)
#define POSITION(x) (((x) >> 7) & 31)
#define IS_SEALED(x) ((x) & SEALED)
#define UNSEALED(x) ((x) & 4095)
#define ONE 16        /* a count of one */

/* The tick that a stamp stands for. A head is never more than D ahead of the floor, so that is where the round ends. */
#define AGE(t, s)  (((t) + 8 * M - (s)) % M)
#define TICK(base, s) ((base) + D - AGE((base) + D, s))
#define IS_LIVE(t, base, s) ((t) - TICK(base, s) < W)

#define BEHIND(p, k) (((p) + POSITIONS - (k)) % POSITIONS)
#define SLOT(p) ((p) % R)

#ifdef POSITION_ONLY
#define IS_ENTRY_OF(x, y) (POSITION(x) == POSITION(y))
#else
#define IS_ENTRY_OF(x, y) (POSITION(x) == POSITION(y) && STAMP(x) == STAMP(y))
#endif

#ifdef NO_SEAL
#define IS_CLOSED_ALREADY (w == h)
#else
#define IS_CLOSED_ALREADY IS_ENTRY_OF(w, h)
#endif

#if defined(NO_FLOOR) || defined(ROUND_ENDS_AT_NOW)
#define TRUE_BASE clock
#else
#define TRUE_BASE floor
#endif

/*
 * Where stamps come round, words can come back: for a thread that sleeps inside one attempt while the positions make a
 * lap, which takes LAPS - 1 windows, or for a round of stamps, and for a ticket kept as long. Such a thread is not woken.
 */
#if T < M
#define IS_SHORT(t) true
#elif (LAPS - 1) * W < M - W - D
#define IS_SHORT(t) (clock - (t) < (LAPS - 1) * W)
#else
#define IS_SHORT(t) (clock - (t) < M - W - D)
#endif
#define IS_AWAKE IS_SHORT(now)
#define IS_TICKET_YOUNG IS_SHORT(ticket_time)

/* For reading a trail. */
#define FIELDS(x) STAMP(x), COUNT(x), POSITION(x), IS_SEALED(x) / SEALED

byte clock;
byte floor;
short head = WORD(0, 0, R);      /* fresh */
short ring[R];
byte generation;

/* Ghosts, read by assertions only. */
byte admitted[T + 1];
#if RESETS > 0
byte total;              /* admitted in this life and not given back */
#endif

/* For every window of W ticks that holds t: no more than the limit. */
inline check_windows(t) {
    a = (t >= W - 1 -> t - (W - 1) : 0);
    do
    :: a <= t ->
        sum = 0;
        b = a;
        do
        :: b < a + W && b <= T -> sum = sum + admitted[b]; b++
        :: else -> break
        od;
        assert(sum <= N);
        a++
    :: else -> break
    od;
    a = 0; b = 0; sum = 0
}

/*
 * What a caller would count now is no less than what was admitted in this life and not refunded within the window, and no more
 * than what was admitted in this life at all.
 */
inline check_nothing_lost() {
    sum = 0;
    if
    :: IS_NOBODYS(head)
    :: !IS_NOBODYS(head) && IS_LIVE(clock, TRUE_BASE, STAMP(head)) ->
        sum = COUNT(head);
        if
        :: IS_SEALED(head) && IS_ENTRY_OF(ring[SLOT(POSITION(head))], head) ->
            sum = COUNT(ring[SLOT(POSITION(head))])
        :: else
        fi;
        a = 1;
        do
        :: a < R ->
            b = SLOT(BEHIND(POSITION(head), a));
            if
            :: POSITION(ring[b]) == BEHIND(POSITION(head), a) && IS_LIVE(clock, TRUE_BASE, STAMP(ring[b])) ->
                sum = sum + COUNT(ring[b]); a++
            :: else -> break
            fi
        :: else -> break
        od
    :: else
    fi;
    a = 0;
    b = 0;
    do
    :: a <= T ->
        if
        :: a + W > clock -> b = b + admitted[a]
        :: else
        fi;
        a++
    :: else -> break
    od;
    assert(IS_NOBODYS(head) || sum >= b);
#if RESETS > 0
    assert(IS_NOBODYS(head) || sum <= total);
#endif
    a = 0; b = 0; sum = 0
}

/* The end of a life: the head that was read becomes `to`. */
inline forget(to) {
    d_step {
        if
        :: head == h ->
            head = (to);
            printf("%d: RESET, head <- stamp %d count %d position %d\n", _pid, STAMP(head), COUNT(head), POSITION(head));
            a = 0;
            do
            :: a <= T -> admitted[a] = 0; a++
            :: else -> break
            od;
            a = 0;
#if RESETS > 0
            total = 0;
#endif
            done = 1
        :: else -> done = 0
        fi
    }
}

inline give_back_ghost() {
    if
    :: generation == ticket_generation && !IS_NOBODYS(head) ->
        admitted[ticket_time] = admitted[ticket_time] - cost;
#if RESETS > 0
        total = total - cost
#endif
    :: else
    fi
}

/* The head that was read, unsealed, into its slot; `w` was read there while the head was `h`. */
inline close_into_slot() {
    d_step {
        if
        :: ring[SLOT(POSITION(h))] == w -> ring[SLOT(POSITION(h))] = UNSEALED(h); printf("%d: slot <- stamp %d count %d position %d sealed %d\n", _pid, FIELDS(h)); check_nothing_lost(); done = 1
        :: else -> done = 0
        fi;
        w = 0
    }
}

inline cas_head(from, to, cost_) {
    d_step {
        IS_AWAKE ->
        if
        :: head == (from) ->
            head = (to);
            printf("%d: head <- stamp %d count %d position %d sealed %d\n", _pid, FIELDS(head));
            if
            :: (cost_) > 0 ->
                time = (time < clock -> time : clock);
                printf("%d: admitted %d at %d\n", _pid, cost_, time);
                admitted[time] = admitted[time] + (cost_);
#if RESETS > 0
                total = total + (cost_);
                assert(generation == g);
#endif
                check_windows(time)
            :: else
            fi;
            check_nothing_lost();
            done = 1
        :: else -> done = 0
        fi
    }
}

active proctype Clock() {
    byte a, b, sum;
    do
    :: atomic { clock < T -> clock++; printf("%d: CLOCK %d\n", _pid, clock); check_nothing_lost() }
    :: break
    od
}

active [PROCS] proctype Caller() {
    byte now, base, time, used, k, cost, hits, refunds, next;
    byte ticket_position, ticket_stamp, ticket_time, ticket_generation, resets, g;
    byte a, b, sum;
    bool done, is_expired, is_ring_full, has_ticket;
    short h, w;

next_call:
    atomic { h = 0; w = 0; used = 0; k = 0; next = 0; done = 0; is_ring_full = 0; now = 0; base = 0; time = 0 };
    if
    :: hits < HITS ->
        d_step { has_ticket = 0; ticket_position = 0; ticket_stamp = 0; ticket_time = 0; ticket_generation = 0; hits++; now = clock; printf("%d: hit, reads clock %d\n", _pid, now); cost = 1 };
#if COSTS > 1
        if
        :: cost = 1
        :: cost = 2
        fi;
#endif
        goto find
    :: has_ticket && refunds < REFUNDS -> refunds++; goto refund
#if RESETS > 0
    :: resets < RESETS -> resets++; goto reset
#endif
    :: goto ended
    fi;

find:
#if RESETS > 0
    g = generation;
#endif
hit:
    atomic { time = 0; base = 0; h = head; printf("%d: reads head stamp %d count %d position %d sealed %d\n", _pid, FIELDS(h)); used = 0; k = 0; next = 0; w = 0; done = 0; is_ring_full = 0 };
#if RESETS > 0
    if
    :: h & FREE -> goto claim
    :: h & CLAIMED -> goto next_call
    :: else
    fi;
#ifndef NO_GENERATION
    if
    :: generation != g -> goto find
    :: else
    fi;
#endif
#endif
#ifdef NO_FLOOR
    base = now;
#else
    atomic {
#ifdef ROUND_ENDS_AT_NOW
        now = (floor > now -> floor : now);
        base = now
#else
        base = floor;
        now = (base > now -> base : now)
#endif
    };
#endif
    if
    :: !IS_LIVE(now, base, STAMP(h)) ->
        used = 0;
        goto counted
    :: else -> used = COUNT(h)
    fi;
    if
    :: IS_SEALED(h) ->
        d_step {
            w = ring[SLOT(POSITION(h))];
            if
            :: IS_ENTRY_OF(w, h) -> used = COUNT(w)
            :: else
            fi;
            w = 0
        }
    :: else
    fi;
    k = 1;
    do
    :: k < R ->
        w = ring[SLOT(BEHIND(POSITION(h), k))];
        if
        :: POSITION(w) != BEHIND(POSITION(h), k) ->
            if
            :: head != h -> goto hit
            :: else -> break
            fi
        :: POSITION(w) == BEHIND(POSITION(h), k) && !IS_LIVE(now, base, STAMP(w)) -> break
        :: else -> d_step { used = used + COUNT(w); k++ }
        fi
    :: else -> d_step { is_ring_full = (COUNT(w) > 0) }; break
    od;

counted:
    atomic { k = 0; w = 0 };
    if
    :: used + cost > N ->
        if
        :: head == h -> goto next_call
        :: else -> goto hit
        fi
    :: else
    fi;
#ifndef NO_FLOOR
    d_step {
        if
        :: floor + D < now -> floor = now
        :: else
        fi
    };
#endif
    d_step {
        time = (TICK(base, STAMP(h)) > now -> TICK(base, STAMP(h)) : now);
        next = time % M;
        is_expired = !IS_LIVE(now, base, STAMP(h));
        used = 0
    };
    if
    :: is_expired ->
        is_expired = 0;
        cas_head(h, WORD(next, cost, (POSITION(h) + R) % POSITIONS), cost);
        if
        :: done -> d_step { ticket_position = (POSITION(h) + R) % POSITIONS }; goto taken
        :: else -> goto hit
        fi
    :: else
    fi;
    if
    :: !IS_SEALED(h) ->
        if
        :: COUNT(h) == 0 || next / Q == STAMP(h) / Q || is_ring_full -> goto merge
        :: else
        fi;
#ifndef READS_SLOT_LATE
        w = ring[SLOT(POSITION(h))];
#if !defined(NO_LEFTOVER_CHECK) && !defined(NO_SEAL) && !defined(POSITION_ONLY)
        if
        :: IS_ENTRY_OF(w, h) -> goto merge
        :: else
        fi;
#endif
#endif
#ifdef NO_SEAL
        if
        :: head != h -> goto hit
        :: else
        fi;
#else
        cas_head(h, h | SEALED, 0);
        if
        :: done -> h = h | SEALED
        :: else -> goto hit
        fi;
#endif
#ifdef READS_SLOT_LATE
        w = ring[SLOT(POSITION(h))];
#endif
    :: else ->
        w = ring[SLOT(POSITION(h))];
        if
        :: IS_ENTRY_OF(w, h) -> goto advance
        :: else
        fi;
#ifndef READS_SLOT_LATE
        if
        :: head != h -> goto hit
        :: else
        fi
#endif
    fi;
    if
    :: IS_CLOSED_ALREADY -> goto advance
    :: else
    fi;
    close_into_slot();
    if
    :: done
    :: else -> goto hit
    fi;
advance:
    w = 0;
    cas_head(h, WORD(next, cost, (POSITION(h) + 1) % POSITIONS), cost);
    if
    :: done -> d_step { ticket_position = (POSITION(h) + 1) % POSITIONS }; goto taken
    :: else -> goto hit
    fi;
merge:
    w = 0;
    cas_head(h, WORD(next, COUNT(h) + cost, POSITION(h)), cost);
    if
    :: done -> d_step { ticket_position = POSITION(h) }; goto taken
    :: else -> goto hit
    fi;
taken:
#if REFUNDS > 0
    atomic { has_ticket = (refunds < REFUNDS); if :: has_ticket -> ticket_stamp = next; ticket_time = time; ticket_generation = g :: else -> ticket_position = 0 fi };
#else
    ticket_position = 0;
#endif
    goto next_call;

#if RESETS > 0
claim:
    atomic {
        now = (floor > now -> floor : now);
        floor = now;
        done = (POSITION(h) + 1 < POSITIONS);
#ifndef NO_REST
        done = (done || now >= STAMP(h) + REST)
#else
        done = 1
#endif
    };
    if
    :: done
    :: else -> goto next_call
    fi;
    d_step {
        if
        :: head == h -> head = WORD(0, 0, POSITION(h)) | CLAIMED; printf("%d: claims\n", _pid); done = 1
        :: else -> done = 0
        fi
    };
    if
    :: done
    :: else -> goto find
    fi;
    d_step { assert(generation < 15); generation++; g = generation };
#ifndef NO_BARRIER
barrier:
    w = ring[SLOT(POSITION(h))];
    d_step {
        if
        :: ring[SLOT(POSITION(h))] == w -> ring[SLOT(POSITION(h))] = BARRIER(generation); done = 1
        :: else -> done = 0
        fi;
        w = 0
    };
    if
    :: done
    :: else -> goto barrier
    fi;
#endif
    d_step {
        base = (floor > now -> floor : now);
        head = WORD(base % M, 0, (POSITION(h) + 1) % POSITIONS);
        printf("%d: begins generation %d stamp %d position %d\n", _pid, generation, STAMP(head), POSITION(head));
        check_nothing_lost()
    };
    goto hit;

reset:
    atomic { now = clock; g = generation };
reset_again:
    atomic { h = head; done = 0 };
    if
    :: IS_NOBODYS(h) -> goto next_call
    :: else
    fi;
#ifndef NO_GENERATION
    if
    :: generation != g -> goto next_call
    :: else
    fi;
#endif
    d_step {
        now = (floor > now -> floor : now);
        floor = now
    };
#ifdef MOVES_ON
    d_step {
        time = (TICK(now, STAMP(h)) > now -> TICK(now, STAMP(h)) : now);
        next = time % M
    };
    forget(WORD(next, 0, (POSITION(h) + R) % POSITIONS));
    d_step {
        if
        :: done -> generation++; check_nothing_lost()
        :: else
        fi
    };
#else
    forget(WORD(now % M, 0, POSITION(h)) | FREE);
#endif
    if
    :: done -> goto next_call
    :: else -> goto reset_again
    fi;
#endif

refund:
    has_ticket = 0;
refund_again:
    atomic { h = head; printf("%d: refund reads head stamp %d count %d position %d sealed %d\n", _pid, FIELDS(h)); w = 0; done = 0 };
    now = ticket_time;
#if RESETS > 0
    if
    :: IS_NOBODYS(h) -> goto refunded
    :: else
    fi;
#ifndef NO_GENERATION
    if
    :: generation != ticket_generation -> goto refunded
    :: else
    fi;
#endif
#endif
    if
    :: POSITION(h) == ticket_position && AGE(STAMP(h), ticket_stamp) < W ->
        if
        :: !IS_SEALED(h) ->
            d_step {
                IS_TICKET_YOUNG ->
                if
                :: head == h ->
                    assert(COUNT(h) >= cost);
                    head = h - cost * ONE; printf("%d: refunded, head <- stamp %d count %d position %d sealed %d\n", _pid, FIELDS(head));
                    give_back_ghost();
                    check_nothing_lost();
                    done = 1
                :: else
                fi
            };
            if
            :: done -> goto refunded
            :: else -> goto refund_again
            fi
        :: else ->
            w = ring[SLOT(POSITION(h))];
            if
            :: IS_ENTRY_OF(w, h) -> goto refund_slot
            :: else
            fi;
#ifndef READS_SLOT_LATE
            if
            :: head != h -> goto refund_again
            :: else
            fi;
#endif
            IS_TICKET_YOUNG;
            close_into_slot();
            goto refund_again
        fi
    :: else -> w = ring[SLOT(ticket_position)]
    fi;
    if
    :: POSITION(w) == ticket_position && AGE(STAMP(w), ticket_stamp) < W && COUNT(w) >= cost -> goto refund_slot
    :: else -> goto refunded
    fi;
refund_slot:
    atomic {
        IS_TICKET_YOUNG ->
        if
        :: ring[SLOT(ticket_position)] == w ->
            assert(COUNT(w) >= cost);
            ring[SLOT(ticket_position)] = w - cost * ONE; printf("%d: refunded, slot <- stamp %d count %d position %d sealed %d\n", _pid, FIELDS(ring[SLOT(ticket_position)]));
            give_back_ghost();
            check_nothing_lost();
            done = 1
        :: else
        fi
    };
    if
    :: done
    :: else -> goto refund_again
    fi;
refunded:
    atomic { ticket_position = 0; ticket_stamp = 0; ticket_time = 0; ticket_generation = 0 };
    goto next_call;
ended:
    atomic { has_ticket = 0; ticket_position = 0; ticket_stamp = 0; ticket_time = 0; ticket_generation = 0; g = 0; cost = 0 }
}
