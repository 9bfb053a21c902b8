"""Closed lists of English words that the text score counts, and the inflection that completes the verbs."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _inflect(verbs: frozenset[str]) -> frozenset[str]:
    """The regular forms of verbs (-s, -ing, -ed with the usual spelling); irregular pasts stand in the lists."""
    forms = set(verbs)
    for verb in verbs:
        closed = len(verb) > 2 and verb[-1] not in "aeiouwxy" and verb[-2] in "aeiou" and verb[-3] not in "aeiou"
        stem = verb[:-1] if verb.endswith("e") and not verb.endswith(("ee", "oe")) else verb
        for base in {stem, verb + verb[-1]} if closed else {stem}:
            forms |= {base + "ing", base + "ed"}
        if verb.endswith("y") and verb[-2] not in "aeiou":
            forms |= {verb[:-1] + "ies", verb[:-1] + "ied"}
        else:
            forms.add(verb + ("es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else "s"))
    return frozenset(forms)


FUNCTION_WORDS = _words(
    "a an the this that these those some any each every all both either neither no many much few several "
    "another other such own same i you he she it we they me him her us them my your his its our their who "
    "whom whose which what where why how and or but nor so yet because although though if unless since as "
    "than of for with without by from at to is are was were be been being am has have had do does did will "
    "would can could may might must shall should not very too also just only even quite rather almost more "
    "most less least there here one two three four five six seven eight nine ten dozen dozens hundreds "
    "thousands still off out about upon per via like"
)
"""Words that join noun phrases or open them; none of them names a thing."""

STATIC_VERBS = _inflect(
    _words("stand stay remain rest sit lie sleep wait pose hang show depict feature look see stare")
)
"""Verbs of a scene in which nothing moves."""

MOTION_VERBS = _inflect(
    _words(
        "move walk run jog sprint jump leap hop dance spin rotate turn twist swirl whirl orbit bounce roll slide "
        "glide drift float fly soar dive swim sink rise fall drop climb crawl chase race rush dash charge flow "
        "pour stream drip leak splash spray erupt explode burst collide crash smash shatter hit kick throw toss "
        "catch swing sway shake tremble vibrate wave flap flutter ripple surge tumble topple spill scatter "
        "spread expand contract grow shrink swell bloom melt freeze burn ignite boil evaporate dissolve fade "
        "appear disappear vanish emerge transform morph change become shift switch open close break bend stretch "
        "fold push pull lift carry drag ride drive sail travel march enter leave exit approach arrive depart "
        "pass circulate undulate writhe dart scurry gallop stomp fight attack flee escape follow collapse "
        "crumble zoom pan tilt accelerate decelerate bob twirl interact juggle flicker pulse"
    )
) | _words(
    "ran flew swam sank rose fell threw caught swung shook grew shrank froze became broke drove rode fought "
    "fled burnt spun dove flown swum fallen risen grown broken frozen driven ridden thrown swept"
)
"""Verbs of motion and of change."""

OTHER_VERBS = _inflect(
    _words("eat drink play cook read write sing talk speak smile laugh hold wear make paint build work watch hunt feed")
)
"""Actions that move little: they count as actions, not as change."""

EVENT_NOUNS = _words(
    "explosion explosions splash eruption collision collisions turbulence storm storms vortex vortices "
    "whirlpool avalanche earthquake tornado hurricane lightning fireworks battle chase transition "
    "transformation timelapse time-lapse motion movement turbulent dynamic swirling chaotic stormy shockwave "
    "shockwaves wildfire debris"
)
"""Nouns and adjectives that speak of change; the nouns are entities as well."""

TEMPORAL_WORDS = _words(
    "then before after afterwards until till while when whenever once meanwhile suddenly gradually eventually "
    "finally later next subsequently simultaneously immediately instantly slowly quickly rapidly fast faster "
    "swiftly constantly continuously repeatedly again first second begin begins began start starts starting "
    "stop stops stopping during"
)
TEMPORAL_PHRASES = ("followed by", "at the same time", "turns into", "as soon as", "over time", "one by one", "in turn")

SPATIAL_WORDS = _words(
    "above below beneath behind beside between among amongst around across through throughout toward towards "
    "into onto inside outside within under underneath over near nearby along alongside against past beyond "
    "opposite amid amidst left right up down upward upwards downward downwards forward forwards backward "
    "backwards sideways clockwise counterclockwise overhead upside top bottom foreground front corner center "
    "centre middle north south east west surround surrounds surrounded surrounding orbit orbits orbiting "
    "encircle encircles encircled facing adjacent distant apart together diagonal diagonally vertical "
    "vertically horizontal horizontally away"
)
"""Words of position and of relative motion."""

PLACE_WORDS = _words("on in")
"""The two commonest places: nearly every caption has one, so each counts half."""

SPATIAL_PHRASES = ("next to", "in front of", "on top of", "out of", "far from", "close to", "side by side")

ING_NOUNS = _words(
    "building buildings ceiling morning evening king ring rings wing wings spring string strings thing things "
    "nothing something everything anything painting paintings lighting clothing wedding sibling being beings "
    "sling swing viking"
)
"""Nouns that end as a participle does."""
