/* One message of Relay's, from its claim to its end, with all who may touch it at any moment.

   Each `inline` of the second part is a statement, or a transaction, of relay/: README.md says which,
   and tests/test_protocol.py holds the two together. They stand here as PostgreSQL runs them at READ
   COMMITTED. A statement takes a snapshot; then it waits for the row that it changes, and asks its
   WHERE of that row again, as it is by now. Of any other row it has the snapshot. So a statement that
   looks at other rows is two steps (the first is called `…_sees`), and anything may come between.
   What follows the lock of a row in its transaction is one step with it: others wait for that lock,
   or see what was before.

   MUTANT plants one of the faults that `make model` has to find. */

#define NO_FENCE 1          /* begin asks for no number: whoever has had a claim may go on */
#define FENCE_ELSEWHERE 2   /* begin asks the table of attempts whether its own still stands */
#define NO_BEGIN 3          /* after the claim comes the wire */
#define EARLY_LOOK 4        /* the provider is asked while the request may still be under way */
#define NO_CLOCK 5          /* who was frozen after begin sends as if nothing had been */
#define STOP_AT_CLAIM 6     /* a STOP counts until the claim only */
#define SILENCE_IS_NO 7     /* a provider that cannot be asked counts as one that has nothing */
#define NO_FOLLOW_UP 8      /* a receipt that says failed leaves no mark to follow it up by */
#define LATE_GIVE_UP 9      /* who gives up looking asks the attempts alone whether its own is the latest */
#define UNBEGUN_COUNTS 10   /* a failure counts only of the latest attempt, begun or not */
#define CLOCK_APART 11      /* a freeze just between the look at the clock and the write (assumed away) */
#ifndef MUTANT
#define MUTANT 0
#endif
#ifndef TRIES
#define TRIES 3  /* attempts of the message, 3 at most: when the last one is refused it has failed */
#endif
#ifndef ACTS
#define ACTS 1   /* of staff */
#endif
#ifndef STOPS
#define STOPS 1  /* whether the person may text STOP */
#endif
#ifndef FALLBACKS
#define FALLBACKS 1  /* whether the rule may have a fallback */
#endif

mtype = { created, sending, unknown, sent, delivered, temporary, permanent, cancelled };
mtype = { none, started, rejected, accepted };            /* an attempt's outcome; or unknown */
mtype = { absent, flying, taken, returned, forgiven };    /* its request, at the provider */
mtype = { waiting, gone, failed };                        /* the fallback; or none, cancelled */

/* notifications */
mtype status = created;
byte number;            /* `attempts`: which is the latest */
bool follow_up;         /* follow_up_at is set */
bool awaited;           /* receipt_by is set */
bool unconfirmed;       /* its attempts' code says that no receipt came */
mtype fallback = none;  /* another row of the same obligation */
/* attempts */
mtype outcome[4] = none;
bool begun[4];          /* begun_at is set */
bool look_at[4];
byte looks[4];
/* suppressions, cases */
bool stopped;
bool case_unreached, case_unknown;
/* The workers' clock, the provider, and what only the oracle knows. What was `taken` may have arrived,
   unless the provider reports that it has not (`returned`). `forgiven`: a person said: once more. */
bool over[4];           /* the attempt's lease is over, and so is its worker's time to write */
mtype wire[4] = absent;
bool busy[2];           /* a thread has a claim */
bool crossed;           /* a failure was reported while a later attempt was under way */
bool by_person;         /* somebody of the clinic has ended it, or taken it over */
byte acts;

#define IS_WAITING (status == created)  /* `scheduled` differs by its time only */
#define HAS_FAILED (status == temporary || status == permanent)
#define IS_ALIVE (!HAS_FAILED && status != cancelled)
#define FALLBACK_IS_ALIVE (fallback == waiting || fallback == gone)
#define IS_OUT(k) (wire[k] == taken || wire[k] == forgiven)
#define MAY_BE_OUT(k) (outcome[k] == accepted || outcome[k] == unknown || begun[k])
#define SURELY_NOT(k) (outcome[k] == none || outcome[k] == rejected || wire[k] == returned)

/* Promise: a status goes forward only. What failed may arrive late, or be taken up again. */
inline become(to) {
  assert((status == created && to != temporary) || status == sending || status == unknown ||
         (status == sent && (to == delivered || to == temporary || to == permanent)) ||
         (status == temporary && (to == permanent || to == delivered || to == created)) ||
         ((status == permanent || status == cancelled) && (to == delivered || to == created)));
  status = to
}

/* Promise: a message is handed over once, unless what the provider had is excused. */
inline take(k) {
  assert(wire[1] != taken && wire[2] != taken && wire[3] != taken);
  wire[k] = taken
}

/* ---- statements ---- */

inline record_outcome(k, ending, to) {
  outcome[k] = ending;
  look_at[k] = (ending == unknown);
  looks[k] = 0;
  begun[k] = false;  /* nobody asks for it any more */
  if
  :: ending == accepted ->
     case_unknown = false;
     if
     :: status == sending || status == unknown || IS_WAITING -> become(sent); awaited = true
     :: else
     fi
  :: ending != accepted && number == k && (status == sending || status == unknown) ->
     become(to);
     follow_up = follow_up || HAS_FAILED || status == cancelled
  :: else
  fi
}

inline claim() {
  IS_WAITING && number < TRIES && (!who || busy[0]);  /* of two that are alike the first */
  busy[who] = true;
  number++;
  mine = number;
  become(sending);
  outcome[mine] = started;
  was_stopped = stopped
}

inline begin_sees() {
  was_mine = (status == sending && number == mine && outcome[mine] == started);
  was_stopped = stopped
}

inline begin() {
#if MUTANT == NO_BEGIN
  ok = true;
#elif MUTANT == NO_FENCE
  ok = (status == sending && !was_stopped);
#elif MUTANT == FENCE_ELSEWHERE
  ok = (was_mine && !was_stopped && status == sending);
#elif MUTANT == STOP_AT_CLAIM
  ok = (was_mine && status == sending && number == mine && outcome[mine] == started);
#else
  ok = (was_mine && !was_stopped && status == sending && number == mine && outcome[mine] == started);
#endif
  was_mine = false;
  begun[mine] = ok && outcome[mine] == started  /* and its lease is renewed */
}

inline write() {
  assert(!was_stopped);  /* Promise: nothing goes to an address that was stopped before begin. */
  if
#if MUTANT != NO_CLOCK && MUTANT != CLOCK_APART
  :: over[mine] -> ending = rejected; to = created  /* TooLate */
  :: !over[mine] ->
#else
  :: true ->
#endif
     if
     :: take(mine); ending = accepted; to = sent
     :: ending = rejected; to = permanent  /* refused for good */
     :: ending = rejected; to = created    /* busy, out of reach; or our clock was ahead */
     :: wire[mine] = flying; ending = unknown; to = unknown
     fi
  fi
}

inline finish() {
  if
  :: outcome[mine] == started || outcome[mine] == unknown ->
     if :: to == created && mine == TRIES -> to = temporary :: else fi;
     record_outcome(mine, ending, to)
  :: else
  fi
}

/* The lease may have been over for a while: then the worker's clock has said so as well. */
inline lapse() {
  status == sending && outcome[number] == started;
  over[number] = begun[number];
  if
  :: begun[number] -> record_outcome(number, unknown, unknown)
  :: !begun[number] && number < TRIES -> record_outcome(number, rejected, created)
  :: !begun[number] && number == TRIES -> record_outcome(number, rejected, permanent)
  fi
}

inline give_up() {
  status == sent && awaited;
  assert(crossed || busy[0] || busy[1] || IS_OUT(1) || IS_OUT(2) || IS_OUT(3));  /* Promise: a failure that was reported waits for no 72 hours. */
  awaited = false;
  unconfirmed = true;
  follow_up = true;
  become(temporary)
}

inline lease_unknown() {
  if
  :: look_at[1] && outcome[1] == unknown -> k = 1
  :: look_at[2] && outcome[2] == unknown -> k = 2
  :: look_at[3] && outcome[3] == unknown -> k = 3
  fi
}

inline find() {
#if MUTANT != EARLY_LOOK
  wire[k] != flying;  /* the first look is two minutes after the attempt's end */
#endif
  found = (wire[k] == taken || wire[k] == returned)
}

inline adopt() {
  if :: outcome[k] == unknown -> record_outcome(k, accepted, sent) :: else fi
}

inline look_later() {
  if :: outcome[k] == unknown -> looks[k] = 1 :: else fi
}

inline give_up_unknown_sees() {
  was_open = (status == unknown && outcome[k] == unknown && number == k)
}

inline give_up_unknown(again) {
  look_at[k] = false;
  looks[k] = 0;
  if
  :: was_open && status == unknown && (number == k || MUTANT == LATE_GIVE_UP) ->
     if
     :: again && number < TRIES -> become(created)
     :: case_unknown = true  /* on_unknown = "hold" */
     fi
  :: else
  fi
}

inline adopt_reported() {
  if
  :: outcome[k] == started || outcome[k] == unknown -> record_outcome(k, accepted, sent)
  :: else
  fi
}

/* A provider reports of attempt k that it has arrived, or has not. */
inline follow(has_arrived) {
  latest = TRIES;  /* that may have gone out */
  do
#if MUTANT == UNBEGUN_COUNTS
  :: latest && (outcome[latest] == none || outcome[latest] == rejected) -> latest--
#else
  :: latest && !MAY_BE_OUT(latest) -> latest--
#endif
  :: else -> break
  od;
  if
  :: has_arrived ->
     become(delivered);
     awaited = false;
     follow_up = false;
     case_unreached = false;
     if :: fallback == waiting -> fallback = cancelled :: else fi
  :: !has_arrived && wire[latest] == returned && status == sent ->
     awaited = false;
     follow_up = (MUTANT != NO_FOLLOW_UP);
     if :: become(temporary) :: become(permanent) fi
  :: else -> crossed = crossed || (latest > k && MAY_BE_OUT(latest) && status == sent)
  fi;
  latest = 0
}

inline lease_follow_ups() {
  follow_up;
  was = status;
  once_more = (was == temporary && !unconfirmed && number < TRIES &&
    (outcome[1] == accepted) + (outcome[2] == accepted) + (outcome[3] == accepted) == 1)
}

inline try_again_sees() {
  made_up_for = FALLBACK_IS_ALIVE
}

inline try_again() {
  if
  :: follow_up && status == was && !made_up_for -> follow_up = false; become(created)
  :: else
  fi
}

inline finish_follow_up() {
  if
  :: follow_up && status == was ->
     follow_up = false;
     if
     :: FALLBACK_IS_ALIVE
     :: !FALLBACK_IS_ALIVE && fallback == none && !unconfirmed && FALLBACKS -> fallback = waiting
     :: !FALLBACK_IS_ALIVE -> case_unreached = true  /* its rule has none, or that failed too */
     fi
  :: else
  fi
}

inline suppress() {
  stopped = true
}

inline stop_held() {
  IS_WAITING;
  by_person = true;
  become(cancelled)
}

inline cancel_claimed() {
  status == sending && outcome[number] == started && !begun[number];
  by_person = true;
  outcome[number] = rejected;
  become(cancelled)
}

inline try_again_by_hand() {
  case_unreached && HAS_FAILED && number < TRIES && !FALLBACK_IS_ALIVE && SURELY_NOT(1) && SURELY_NOT(2);
  case_unreached = false;
  follow_up = false;
  become(created)
}

inline send_again() {
  HAS_FAILED || status == sent || status == delivered;
  by_person = true;
  case_unreached = false;
  if :: fallback == waiting -> fallback = cancelled :: else fi
}

inline decide_unknown_sees() {
  case_unknown;
  was_open = (status == unknown && !look_at[1] && !look_at[2] && !look_at[3])
}

inline decide_unknown() {
  if
  :: was_open && status == unknown && number < TRIES ->  /* send it once more */
     case_unknown = false;
     if :: wire[1] == taken -> wire[1] = forgiven :: else fi;
     if :: wire[2] == taken -> wire[2] = forgiven :: else fi;
     become(created)
  :: was_open && status == unknown ->  /* it counts as sent */
     case_unknown = false;
     by_person = true;
     become(sent)
  :: else
  fi;
  was_open = false
}

inline close() {
  case_unreached || case_unknown;
  by_person = true;
  case_unreached = false;
  case_unknown = false
}

/* ---- who runs them ---- */

/* A thread of a worker. It may be frozen anywhere, or die, and then another takes its place. */
proctype Sender(bit who) {
  byte mine;
  bool ok, was_mine, was_stopped;
  mtype ending = none, to = none;
next:
  atomic {
    claim();
    if
    :: goto died  /* message.claimed */
    :: was_stopped -> ending = rejected; to = cancelled; was_stopped = false; goto ended
    :: !was_stopped
    fi
  }
  begin_sees();
  atomic {
    begin();
    if
    :: goto died  /* message.before-send */
    :: !ok -> ending = rejected; to = created; goto ended
    :: ok
#if MUTANT == CLOCK_APART
       -> if :: over[mine] -> ending = rejected; to = created; goto ended :: else fi
#endif
    fi
  }
  atomic {
    write();
    if :: goto died  /* message.after-send */ :: true fi
  }
ended:
  atomic { finish(); goto died }
died:
  atomic {
    mine = 0; ok = false; was_mine = false; was_stopped = false; ending = none; to = none;
    busy[who] = false;
    goto next
  }
}

/* What was written reaches the provider before anybody looks for it, or never. */
active proctype Network() {
end:
  do
  :: atomic { wire[1] == flying -> if :: take(1) :: wire[1] = absent fi }
  :: atomic { wire[2] == flying -> if :: take(2) :: wire[2] = absent fi }
  :: atomic { wire[3] == flying -> if :: take(3) :: wire[3] = absent fi }
  od
}

/* The sweep. */
active proctype Clock() {
end:
  do
  :: atomic { lapse() }
  :: atomic { give_up() }
  od
}

/* The lane "lookups": two looks, of which each may find that the provider cannot be asked. */
active proctype Looker() {
  byte k;
  bool found, was_open;
end:
  do
  :: atomic { lease_unknown(); find() }
     if
     :: found -> atomic { adopt(); k = 0; found = false }
     :: !found && !looks[k] -> atomic { look_later(); k = 0 }
     :: !found && looks[k] -> give_up_unknown_sees(); atomic { give_up_unknown(true); k = 0; was_open = false }
     :: give_up_unknown_sees();
        atomic { give_up_unknown(MUTANT == SILENCE_IS_NO); k = 0; found = false; was_open = false }
     fi
  od
}

/* The provider's callbacks, late and in any order. */
active proctype Callbacks() {
  byte k, latest;
end:
  do
  :: atomic {
       status != delivered;  /* nothing undoes that, of a text */
       if
       :: wire[1] != absent && wire[1] != flying -> k = 1
       :: wire[2] != absent && wire[2] != flying -> k = 2
       :: wire[3] != absent && wire[3] != flying -> k = 3
       fi;
       if
       :: adopt_reported(); follow(true)
       :: wire[k] != returned -> wire[k] = returned; adopt_reported(); follow(false)
       fi;
       k = 0
     }
  od
}

/* The lane "followups". The fallback is only sent, or not: it is a message like this one. */
active proctype Follower() {
  mtype was = none;
  bool once_more, made_up_for;
end:
  do
  :: atomic { lease_follow_ups() }
     if
     :: once_more -> try_again_sees(); atomic { try_again(); made_up_for = false; once_more = false; was = none }
     :: atomic { finish_follow_up(); once_more = false; was = none }  /* its code may say: not once more */
     fi
  :: atomic {
       fallback == waiting ->
       if
       :: fallback = gone
       :: fallback = failed; if :: !IS_ALIVE && !follow_up -> case_unreached = true :: else fi
       fi
     }
  od
}

/* Somebody texts STOP, at any moment. */
active proctype Person() {
end:
  STOPS -> suppress()
}

active proctype Staff() {
  bool was_open;
end:
  do
  :: atomic {
       acts < ACTS;
       if
       :: stop_held()
       :: cancel_claimed()
       :: try_again_by_hand()
       :: send_again()
       :: decide_unknown_sees()
       :: close()
       fi;
       acts++
     }
     atomic { decide_unknown() }
  od
}

/* Promise: nobody is forgotten. At any moment they are told, or a person knows, or something is left
   that goes on by itself. */
#define GOES_ON (IS_WAITING || status == sending || awaited || follow_up || \
                 look_at[1] || look_at[2] || look_at[3] || fallback == waiting)
#define IS_KNOWN (case_unreached || case_unknown || by_person)

active proctype Judge() {
end:
  atomic { !(GOES_ON || status == delivered || fallback == gone || IS_KNOWN) -> assert(false) }
}

init { atomic { run Sender(0); run Sender(1) } }
