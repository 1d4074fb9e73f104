/*
 * One cell that changes hands: claims, claimers who sleep or die, and those who take over what they left; and the hits of
 * whoever won it.
 *
 * Every shared read, store and compare-and-swap is a step of its own, and every caller may stop for ever before any of them.
 */

#ifndef PROCS
#define PROCS 2
#endif
#ifndef CLAIMS
#define CLAIMS 2      /* tried by each caller, each for a key of its own */
#endif
#ifndef T
#define T 4           /* the clock stops here */
#endif
#ifndef PATIENCE
#define PATIENCE 1    /* ticks that a claim may last before somebody else takes it for abandoned */
#endif

/* head: claimed 1, count 1, position 4, time of the claim 4; a cell has expired one tick after it got its life */
#define CLAIMED 512
#define HEAD(n, p, t)  (((n) << 8) | ((p) << 4) | (t))
#define COUNT(x)       (((x) >> 8) & 1)
#define POSITION(x)    (((x) >> 4) & 15)
#define TIME(x)        ((x) & 15)
#ifndef NO_TIME_IN_CLAIM
#define CLAIM(h, t) (CLAIMED | HEAD(0, POSITION(h), t))
#else
#define CLAIM(h, t) (CLAIMED | HEAD(0, POSITION(h), 0))
#endif

/* identity: key 4, generation 4 */
#ifndef KEY_ALONE
#define IDENTITY(k, g) (((k) << 4) | (g))
#else
#define IDENTITY(k, g) ((k) << 4)
#endif

/* owner: whose 4, generation 4 */
#ifndef OWNER_ALONE
#define OWNER(k, g) (((k) << 4) | (g))
#else
#define OWNER(k, g) ((k) << 4)
#endif

byte clock;
short head;
byte life;      /* its generation is what matters */
byte identity;
byte owner;     /* whose the memory is: told by a word of its own, and of its generation */

active proctype Clock() {
    do
    :: clock < T -> clock++
    :: break
    od
}

active [PROCS] proctype Caller() {
    short h, claim;
    byte now, seen, generation, key, claims;
    bool won;

next_claim:
    atomic {
        h = 0; claim = 0; now = 0; seen = 0; generation = 0; won = 0;
        /* Keys come back: that of the caller, and one that all have. */
        key = (claims & 1 -> 1 : _pid + 1)
    };
    if
    :: claims < CLAIMS -> claims++
    :: else -> goto ended
    fi;
    now = clock;
    h = head;
    if
    :: h & CLAIMED ->
#ifndef NO_TIME_IN_CLAIM
        if
        :: now > TIME(h) + PATIENCE
        :: else -> goto next_claim
        fi
#endif
    :: else ->
        if
        :: now > TIME(h)
        :: else -> goto next_claim
        fi
    fi;
    claim = CLAIM(h, now);
    d_step {
        if
        :: head == h -> head = claim; won = 1
        :: else -> won = 0
        fi
    };
    if
    :: !won -> goto next_claim
    :: else
    fi;

swap_life:
#ifndef READS_AFTER_LOOKING
    seen = life;
    if
    :: head == claim
    :: else -> goto next_claim
    fi;
#else
    if
    :: head == claim
    :: else -> goto next_claim
    fi;
    seen = life;
#endif
    d_step {
#ifndef STORES
        if
        :: life == seen ->
#endif
            assert(head & CLAIMED);
            assert(seen < 15);
            generation = seen + 1;
            life = generation;
            won = 1
#ifndef STORES
        :: else -> won = 0
        fi
#endif
    };
    if
    :: !won -> goto swap_life
    :: else
    fi;

swap_identity:
#ifndef READS_AFTER_LOOKING
    seen = identity;
    if
    :: head == claim
    :: else -> goto next_claim
    fi;
#else
    if
    :: head == claim
    :: else -> goto next_claim
    fi;
    seen = identity;
#endif
    d_step {
#ifndef STORES
        if
        :: identity == seen ->
#endif
            assert(head & CLAIMED);
            identity = IDENTITY(key, generation);
            won = 1
#ifndef STORES
        :: else -> won = 0
        fi
#endif
    };
    if
    :: !won -> goto swap_identity
    :: else
    fi;

swap_owner:
    seen = owner;
    if
    :: head == claim
    :: else -> goto next_claim
    fi;
    d_step {
#ifndef STORES_OWNER
        if
        :: owner == seen ->
#endif
            owner = OWNER(key, generation);
            won = 1
#ifndef STORES_OWNER
        :: else -> won = 0
        fi
#endif
    };
    if
    :: !won -> goto swap_owner
    :: else
    fi;

    d_step {
        if
        :: head == claim ->
            assert(POSITION(h) < 15);
            head = HEAD(0, POSITION(h) + 1, now);
            won = 1;
            /* Whoever has won a cell has won all of it. */
            assert(life == generation);
            assert(identity == IDENTITY(key, generation));
            assert(owner == OWNER(key, generation))
        :: else -> won = 0
        fi
    };
    if
    :: !won -> goto next_claim
    :: else
    fi;

hit:
    h = head;
    if
    :: (h & CLAIMED) || COUNT(h) -> goto next_claim
    :: else
    fi;
    if
    :: identity == IDENTITY(key, generation)
    :: else -> goto next_claim
    fi;
    d_step {
        if
        :: head == h ->
            assert(identity == IDENTITY(key, generation) && life == generation);
            assert(owner == OWNER(key, generation));
            head = HEAD(1, POSITION(h), TIME(h));
            won = 1
        :: else -> won = 0
        fi
    };
    if
    :: !won -> goto hit
    :: else -> goto next_claim
    fi;
ended:
    claims = 0
}
