/*
 * One bucket of the index and the cells behind it: find, insert, help, clear, reclaim, vacate, reset; and the hit that follows.
 *
 * Every shared read, store and compare-and-swap is a step of its own. All keys share the bucket; a cell is a head of limit
 * 1, so one admission too many is one of two. `Newcomer` looks, in every state, whether a caller that comes when all others
 * have stopped for ever still gets a cell.
 */

#ifndef PROCS
#define PROCS 2
#endif
#ifndef HITS
#define HITS 2        /* for each caller, each of any key */
#endif
#ifndef RESETS
#define RESETS 0      /* for each caller, each of any cell */
#endif
#ifndef KEYS
#define KEYS 2
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef CELLS
#define CELLS (PROCS + 1)   /* so that one is left when every caller stops with a claimed one in its hand */
#endif
#ifndef W
#define W 1
#endif
#ifndef D
#define D 0           /* ticks that a head may be ahead of the floor */
#endif
#ifndef T
#define T 1           /* the clock stops here */
#endif

/* head: free 1, claimed 1, position 4, count 1, stamp 3 */
#define HEAD(s, n, p) ((s) | ((n) << 3) | ((p) << 4))
#define CLAIMED 256
#define FREE 512      /* its life has ended: whoever needs a cell may claim it at once */
#define IS_NOBODYS(x) ((x) & (CLAIMED | FREE))
#define STAMP(x)    ((x) & 7)
#define COUNT(x)    (((x) >> 3) & 1)
#define POSITION(x) (((x) >> 4) & 15)
#define IS_LIVE(t, x) ((t) < STAMP(x) + W)

/* slot: entry 1, key (its fingerprint) 2, generation 3, cell 2 */
#define ENTRY 128
#define SLOT_WORD(n, g, c) (ENTRY | ((n) << 5) | ((g) << 2) | (c))
#define KEY_OF(x)        (((x) >> 5) & 3)
#define GENERATION_OF(x) (((x) >> 2) & 7)
#define CELL_OF(x)       ((x) & 3)
#define EMPTIED(x)       ((x) & 127)

/* control: pending 1, slot 2, generation 3, cell 2; an idle one is what is left of the last insert */
#define PENDING 4096
#define CONTROL_CELL(x) (((x) >> 5) & 3)
#define CONTROL_GENERATION(x) (((x) >> 7) & 7)
#define CONTROL_SLOT(x) (((x) >> 10) & 3)
#ifndef NO_GENERATION_IN_CONTROL
#define MAKE_PENDING(i, c, g) (PENDING | ((i) << 10) | ((g) << 7) | ((c) << 5))
#else
#define MAKE_PENDING(i, c, g) (PENDING | ((i) << 10) | ((c) << 5))
#endif
#define IDLE_AFTER(x) ((x) - PENDING)
/* What the helper compares of a generation. */
#ifndef LOW_BITS
#define COMPARED(g) (g)
#else
#define COMPARED(g) ((g) & ((1 << LOW_BITS) - 1))
#endif

#ifdef RECLAIMS_EMPTY
#define OR_EMPTY || COUNT(h) == 0
#else
#define OR_EMPTY
#endif
#ifndef LIVES
#define LIVES 7       /* for each cell, at most */
#endif

byte clock;
byte floor;
short control;
byte slots[SLOTS];
short heads[CELLS];
byte generations[CELLS];
byte identities[CELLS];

/* Ghosts, read by assertions only: for each tick, the keys admitted; and how many inserts were announced. */
byte admitted[T + 1];
byte announced;

inline check_window(t, n) {
    d = 0;
    do
    :: d <= T ->
        if
        :: d != t && d + W > t && t + W > d -> assert(!(admitted[d] & (1 << (n))))
        :: else
        fi;
        d++
    :: else -> break
    od;
    d = 0;
    assert(!(admitted[t] & (1 << (n))));
    admitted[t] = admitted[t] | (1 << (n))
}

/* The word read in the slot, which is stale. Fails when somebody cleared it before, which is as good. */
inline clear(i_) {
    d_step {
        if
        :: slots[i_] == w -> slots[i_] = EMPTIED(w); printf("%d: clears slot %d (key %d cell %d generation %d)\n", _pid, i_, KEY_OF(w), CELL_OF(w), GENERATION_OF(w))
        :: else
        fi
    }
}

active proctype Clock() {
    do
    :: clock < T -> clock++; printf("%d: CLOCK %d\n", _pid, clock)
    :: break
    od
}

active [PROCS] proctype Caller() {
    byte now, key, hits, resets, i, vacant, c, g, w, spare, spare_generation, d;
    short h, idle;
    bool inserts, done;

next_call:
    atomic { now = 0; key = 0; i = 0; vacant = 0; c = 0; g = 0; w = 0; spare = 0; spare_generation = 0; h = 0; idle = 0; inserts = 0; done = 0 };
    if
    :: hits < HITS ->
        hits++;
        atomic {
            if
            :: key = 1
#if KEYS > 1
            :: key = 2
#endif
            fi;
            now = clock;
            printf("%d: hits key %d at %d\n", _pid, key, now)
        };
        goto scan
#if RESETS > 0
    :: resets < RESETS ->
        resets++;
        atomic {
            now = clock;
            if
            :: c = 0
#if CELLS > 1
            :: c = 1
#endif
#if CELLS > 2
            :: c = 2
#endif
            fi
        };
        h = heads[c];
        if
        :: IS_NOBODYS(h) || generations[c] == 0 -> goto next_call
        :: else
        fi;
        d_step {
            if
            :: floor < now -> floor = now
            :: else
            fi
        };
        d_step {
            if
            :: heads[c] == h ->
                heads[c] = HEAD(0, 0, POSITION(h)) | FREE;
                printf("%d: RESET cell %d key %d\n", _pid, c, identities[c]);
                d = 0;
                do
                :: d <= T -> admitted[d] = admitted[d] & (255 - (1 << identities[c])); d++
                :: else -> break
                od;
                d = 0
            :: else
            fi
        };
        goto next_call
#endif
    :: goto ended
    fi;

insert:
    atomic { inserts = 1; i = 0; vacant = SLOTS; w = 0; c = 0; g = 0; h = 0; idle = control };
    if
    :: idle & PENDING -> goto finish
    :: else
    fi;
scan:
    do
    :: i < SLOTS ->
        w = slots[i];
        if
        :: w >= ENTRY && KEY_OF(w) == key ->
            if
            :: IS_NOBODYS(heads[CELL_OF(w)]) -> goto stale
            :: else
            fi;
            if
            :: generations[CELL_OF(w)] != GENERATION_OF(w) -> goto stale
            :: else
            fi;
            if
            :: identities[CELL_OF(w)] == key -> goto found
            :: else
            fi;
            goto no_vacancy;
stale:
            clear(i)
        :: w >= ENTRY && KEY_OF(w) != key -> goto no_vacancy
        :: else
        fi;
        d_step {
            if
            :: vacant == SLOTS -> vacant = i
            :: else
            fi
        };
no_vacancy:
        atomic { w = 0; i++ }
    :: else -> break
    od;
    i = 0;
    if
    :: !inserts -> goto insert
    :: vacant == SLOTS -> goto vacate
    :: else
    fi;
    if
    :: spare ->
#ifndef SPARE_MAY_BE_CLAIMED
        if
        :: IS_NOBODYS(heads[spare - 1]) -> goto prepare
        :: else
        fi;
#endif
        if
        :: generations[spare - 1] != spare_generation || identities[spare - 1] != key -> goto prepare
        :: else
        fi
    :: else ->
prepare:
        spare = 0;
        if
        :: c = 0
#if CELLS > 1
        :: c = 1
#endif
#if CELLS > 2
        :: c = 2
#endif
#if CELLS > 3
        :: c = 3
#endif
        fi;
        goto claim
    fi;
publish:
    atomic {
        c = 0;
        if
        :: control == idle ->
            assert(announced < 31);
            announced++;
            idle = MAKE_PENDING(vacant, spare - 1, spare_generation);
            control = idle;
            printf("%d: control <- pending slot %d cell %d generation %d\n", _pid, vacant, spare - 1, spare_generation);
            done = 1
        :: else -> done = 0
        fi
    };
    if
    :: done -> done = 0
    :: else -> goto insert
    fi;
finish:
    atomic { vacant = 0; w = slots[CONTROL_SLOT(idle)] };
    if
    :: control != idle -> goto insert
    :: else
    fi;
    if
    :: w < ENTRY ->
#ifndef NO_GENERATION_IN_CONTROL
        atomic { g = generations[CONTROL_CELL(idle)]; c = identities[CONTROL_CELL(idle)] };
        if
        :: COMPARED(g) != COMPARED(CONTROL_GENERATION(idle)) -> goto finished
        :: CELL_OF(w) == CONTROL_CELL(idle) && GENERATION_OF(w) == g -> goto finished
        :: else
        fi;
#else
        atomic { g = generations[CONTROL_CELL(idle)]; c = identities[CONTROL_CELL(idle)] };
#endif
        d_step {
            if
            :: slots[CONTROL_SLOT(idle)] == w ->
                slots[CONTROL_SLOT(idle)] = SLOT_WORD(c, g, CONTROL_CELL(idle));
                printf("%d: slot %d <- key %d cell %d generation %d\n", _pid, CONTROL_SLOT(idle), c, CONTROL_CELL(idle), g)
            :: else
            fi;
            c = 0; g = 0
        }
    :: else
    fi;
finished:
    atomic {
        w = 0; g = 0; c = 0;
        if
        :: control == idle -> control = IDLE_AFTER(idle); printf("%d: control <- idle\n", _pid)
        :: else
        fi
    };
    goto insert;

vacate:
    do
    :: i < SLOTS ->
        w = slots[i];
        if
        :: w < ENTRY -> goto insert
        :: else
        fi;
        c = CELL_OF(w);
        h = heads[c];
        if
        :: IS_NOBODYS(h) -> clear(i); goto insert
        :: else
        fi;
        g = generations[c];
        if
        :: g != GENERATION_OF(w) -> clear(i); goto insert
        :: else
        fi;
        atomic { g = 0; h = 0; spare = 0 };
        goto claim;
vacated:
        atomic { c = 0; h = 0; g = 0; w = 0; i++ }
    :: else -> break
    od;
    goto next_call;

    /* The cell c, when it is free or has expired. To vacate slot i (no slot is vacant) its life is ended. */
claim:
    h = heads[c];
    if
    :: h & CLAIMED -> goto not_claimed
    :: (h & FREE) && vacant == SLOTS -> goto not_claimed
    :: else
    fi;
    g = generations[c];
#ifndef NO_TABLE_FLOOR
    d = floor;
#endif
    d_step {
        d = (d > now -> d : now);
        done = (g < LIVES && (g == 0 || (h & FREE) || !IS_LIVE(d, h) OR_EMPTY));
        d = 0
    };
    if
    :: !done -> goto not_claimed
    :: else -> done = 0
    fi;
#ifndef NO_TABLE_FLOOR
    d_step {
        if
        :: floor < now -> floor = now
        :: else
        fi
    };
#endif
    d_step {
        if
        :: heads[c] == h && vacant == SLOTS ->
            heads[c] = HEAD(0, 0, POSITION(h)) | FREE; printf("%d: ends cell %d\n", _pid, c); done = 1
        :: heads[c] == h && vacant != SLOTS ->
            heads[c] = HEAD(0, 0, POSITION(h)) | CLAIMED; printf("%d: claims cell %d\n", _pid, c); done = 1
        :: else -> done = 0
        fi
    };
    if
    :: !done -> goto not_claimed
    :: else -> done = 0
    fi;
    if
    :: vacant == SLOTS -> clear(i); goto insert
    :: else
    fi;
    atomic {
#ifndef NO_GENERATION
        g++;
        generations[c] = g;
#endif
        identities[c] = key
    };
    d = floor;
    d_step {
        d = (d > now -> d : now);
        d = (STAMP(h) > d -> STAMP(h) : d);
        assert(POSITION(h) < 15);
        heads[c] = HEAD(d, 0, POSITION(h) + 1);
        printf("%d: cell %d <- key %d generation %d stamp %d\n", _pid, c, identities[c], generations[c], d);
        d = 0
    };
    d_step { h = 0; spare = c + 1; spare_generation = g; c = 0; g = 0 };
    goto publish;
not_claimed:
    atomic { h = 0; g = 0; done = 0 };
    if
    :: vacant == SLOTS -> goto vacated
    :: else -> goto next_call
    fi;

found:
    atomic { c = CELL_OF(w); g = GENERATION_OF(w); w = 0; i = 0; vacant = 0; spare = 0; spare_generation = 0; idle = 0; inserts = 0 };
hit:
    h = heads[c];
    if
    :: IS_NOBODYS(h) -> goto gone
    :: else
    fi;
    if
    :: identities[c] != key -> goto gone
    :: else
    fi;
    if
    :: generations[c] != g -> goto gone
    :: else
    fi;
    now = (floor > now -> floor : now);
    if
    :: IS_LIVE(now, h) && COUNT(h) == 1 ->
        if
        :: heads[c] == h -> goto next_call
        :: else -> goto hit
        fi
    :: else
    fi;
    d_step {
        if
        :: floor + D < now -> floor = now
        :: else
        fi
    };
    d_step {
        if
        :: heads[c] == h ->
            assert(identities[c] == key && generations[c] == g);
            d = (STAMP(h) > now -> STAMP(h) : now);
            now = d;
            assert(POSITION(h) < 15);
            heads[c] = HEAD(now, 1, (IS_LIVE(now, h) -> POSITION(h) : POSITION(h) + 1));
            printf("%d: ADMITTED key %d cell %d at %d\n", _pid, key, c, now);
            check_window(now, key);
            done = 1
        :: else -> done = 0
        fi
    };
    if
    :: done -> goto next_call
    :: else -> goto hit
    fi;
gone:
    atomic { h = 0; c = 0; g = 0 };
    goto scan;
ended:
    hits = 0
}
