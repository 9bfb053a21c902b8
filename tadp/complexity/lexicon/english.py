"""Closed lists of English: verbs by their lemma, all other words as they are written, in lower case."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    """Phrases set apart by commas, longest first so that a search prefers them."""
    return tuple(sorted((phrase.strip() for phrase in text.split(",")), key=len, reverse=True))


OPENERS = _words(
    "a an the this these those some any each every all both either neither no many much few several another other "
    "such own same my your his her its our their whose one two three four five six seven eight nine ten eleven twelve "
    "twenty hundred thousand dozen dozens hundreds thousands countless various multiple single lone"
)
"""Words that open a noun phrase."""

SUBJECTS = _words("i you he she it we they who that which what there everyone everything nothing someone something")
"""Words that a verb follows."""

AUXILIARIES = _words(
    "to is are was were be been being am has have had do does did will would can could may might must shall should "
    "not 's isn't aren't don't doesn't"
)
"""Words that a verb or a participle follows."""

JOINTS = _words(
    "of for with without by from at as than per via about like so yet because although though if unless whether where "
    "how why me him us them himself herself itself themselves here out off very too also just only even quite rather "
    "almost more most less least together still"
)
"""What else joins words and names nothing."""

CONJUNCTIONS = _words("and or but nor")

STATES = _words(
    "stand stay remain rest sit lie sleep wait pose hang show depict feature look see stare gaze face wear hold keep "
    "cover fill dress line light seem contain include consist belong exist own have be resemble lean rely decorate "
    "adorn drape frame set place park pile stack arrange style inspire base make carve paint draw render shoot film "
    "capture illustrate detail focus blur mute saturate surround encircle overlook enclose border adjoin soak bathe "
    "steep clad equip furnish label name call know like love want need think believe silhouette display exhibit "
    "suggest evoke convey highlight tone texture weather age shade center centre dominate nestle neighbour neighbor "
    "tower loom"
)
"""Verbs of a scene in which nothing moves, and of the making of a picture."""

MOTION = _words(
    "move walk run jog sprint jump leap hop skip dance spin rotate turn twist swirl whirl orbit bounce roll slide "
    "glide drift fly soar hover dive swim sink rise fall drop climb crawl creep chase race rush dash charge flow pour "
    "stream drip leak splash spray spout gush hit strike kick throw toss hurl fling catch grab swing shake tumble "
    "topple tip spill scatter surge push pull drag lift raise lower carry ride drive sail row paddle travel march "
    "stride wander roam stroll enter leave exit approach arrive depart pass cross circle circulate undulate writhe "
    "dart scurry gallop trot stomp stumble trip slip skid swerve weave dodge duck fight attack flee escape follow "
    "pursue hunt zoom pan tilt track dolly truck accelerate decelerate speed brake twirl flip somersault vault juggle "
    "bow kneel land launch lunge plunge swoop pounce perch settle gather flock swarm converge merge diverge split "
    "separate part revolve oscillate bob bump collide crash smash ram clash batter trigger fire release send deliver "
    "return retreat advance ascend descend emerge sweep whip lash slash stab punch tackle wrestle block deflect head "
    "score serve pitch hammer pound stir shovel dig sneak slither wriggle squirm waddle trudge hike skate ski surf "
    "snowboard parachute skydive hurtle zip whiz streak meander trickle cascade tremble quake rattle thrash flail "
    "unfurl unroll hoist haul tow steer veer pivot spiral coil uncoil thread meet embrace hug"
)
"""Verbs of motion through the scene, and of what moves others."""

CHANGE = _words(
    "change become transform morph shift convert evolve mutate grow shrink swell bloom blossom sprout wilt wither "
    "melt thaw freeze ignite boil evaporate condense dissolve fade appear disappear vanish explode burst erupt pop "
    "shatter splinter crack break snap tear rip crumble collapse disintegrate decay rot rust spread expand contract "
    "inflate deflate open close unfold fold bend stretch deform reshape reform form assemble build construct "
    "dismantle demolish destroy begin start stop end cease finish switch brighten darken dim lighten intensify hatch "
    "age overgrow flood dry harden soften crystallize crystallise solidify materialize materialise dissipate disperse "
    "detonate implode fracture fragment peel shed awaken wake transition trap sink capsize engulf devour swallow "
    "consume multiply double combine replace"
)
"""Verbs of change: something is another afterwards."""

STIR = _words(
    "float wave sway flicker burn blink breathe glow shimmer glimmer sparkle twinkle steam smoke flutter flap ripple "
    "rustle tremble vibrate pulse bubble simmer smoulder smolder nod smile laugh wink yawn lap shine glint gleam rock "
    "billow hum"
)
"""Verbs of small motion in place."""

ACTIONS = _words(
    "eat drink play cook chop slice cut read write sing talk speak smile laugh type knit sew work watch feed clap "
    "cheer kiss cry wash clean sweep pick put take give bring shape mold mould sculpt pet stroke bark howl roar meow "
    "chirp wave point greet help teach study pray meditate stretch exercise train practice practise perform conduct "
    "drum strum sip bite chew lick nibble sniff dig plant water harvest paint sketch fix repair open close toss mix "
    "knead bake fry grill serve"
)
"""Other verbs that are read as such where the form alone could be a noun."""

CAMERA = _words("zoom pan tilt dolly truck orbit track fly circle rotate follow move push pull")
"""Verbs that may open a prompt as an order to the camera."""

EVENTS = _words(
    "explosion explosions splash splashes eruption eruptions collision collisions turbulence thunderstorm avalanche "
    "avalanches earthquake tornado tornadoes hurricane fireworks firework battle battles chase transition transitions "
    "transformation transformations metamorphosis timelapse time-lapse hyperlapse movement movements shockwave "
    "shockwaves wildfire blast blasts crash pursuit stampede fight fights race races riot riots flood floods collapse "
    "landslide whirlpool whirlpools vortex dance jump leap somersault growth decay motion"
)
"""Nouns of what happens; they are entities as well."""

UNREST = _words("turbulent dynamic chaotic stormy frantic hectic fast-paced restless explosive sudden rapid ongoing")
"""Adjectives of what happens."""

ORDER = _words(
    "then before after afterwards afterward until till while when whenever once meanwhile suddenly gradually "
    "eventually finally later subsequently simultaneously immediately instantly abruptly again next progressively "
    "during repeatedly alternately successively thereafter lastly"
)
"""Words that order events in time."""

ORDER_PHRASES = _phrases(
    "followed by, at the same time, as soon as, over time, one by one, in turn, in the end, at first, at last, "
    "turns into, turn into, turning into, turned into, time lapse, from day to night, step by step, floor by floor, "
    "bit by bit, one after another, one after the other, more and more, back and forth, in succession, all at once"
)

PACE = _words("slowly quickly rapidly fast faster swiftly steadily constantly continuously smoothly furiously")
"""Words of pace: they tell how something moves that has been counted already."""

PACE_PHRASES = _phrases("slow motion, slow-motion, in motion")

RELATIONS = _words(
    "above below beneath behind beside besides between among amongst around across through throughout toward towards "
    "into onto within under underneath over near nearby along alongside against past beyond opposite amid amidst left "
    "right up down upward upwards downward downwards forward forwards backward backwards sideways clockwise "
    "counterclockwise overhead upside inward outward inwards outwards away aside ahead apart aboard atop foreground "
    "midair underfoot diagonally vertically horizontally parallel perpendicular adjacent everywhere"
)
"""Words of position and of relative motion."""

RELATION_PHRASES = _phrases(
    "next to, in front of, on top of, out of, far from, close to, side by side, in the middle of, in the middle, "
    "in the center of, in the centre of, at the edge of, at the foot of, on the left, on the right, to the left, "
    "to the right, in the background, in the foreground, in the distance, on either side, on both sides, away from, "
    "face to face, one above the other, from behind, from above, from below, in every direction, in all directions, "
    "upside down, in a circle, in a row"
)

RELATION_VERBS = _words(
    "orbit surround encircle circle follow chase pursue overtake cross approach overlook face flank enclose enter "
    "leave converge diverge collide separate merge pass meet trail lead"
)
"""Verbs that say how one thing lies or moves with respect to another; chosen by lemma, whatever their form."""

PLACES = _words("on in at inside outside top bottom front back corner center centre middle edge")
"""The commonest places: nearly every caption has one, so each counts less."""

NO_PLACE_PHRASES = _phrases(
    "in the style of, in the manner of, in detail, in style, in color, in colour, in black and white, in focus, "
    "at night, at dusk, at dawn, at sunset, at sunrise, at noon, in the morning, in the evening, in winter, in summer, "
    "in spring, in autumn, top view, top down, black and white, over the shoulder shot, at the camera, in oil, "
    "left blank, on canvas, on paper, no people"
)
"""Where a word of place is none."""

STILL_PAIRS = frozenset(
    tuple(pair.split())
    for pair in _phrases(
        "rolling hills, running shoes, swimming pool, winding path, winding road, flowing dress, flowing hair, "
        "flowing robe, flowing robes, flowing gown, rocking chair, rolling pin, leading lines, still life, "
        "dining table, dining room, living room, reading hall, reading room, sleeping bag, walking stick, "
        "hanging lamp, standing lamp, climbing plants, folding chair, striking contrast, washing machine, "
        "sewing machine, shopping mall, racing car, sailing boat, sailing ship, fishing boat, fishing net, "
        "rising star, turning point, opening scene, closing scene, sweeping view, sweeping vista, towering cliffs, "
        "imposing castle, drawing room"
    )
)
"""Participles that describe what does not move."""

NOUNS_FIRST = _words("leaves waves rocks steps rows branches paths")
"""Forms that are nouns unless an object or an adverb follows."""

STYLE = _words(
    "cinematic photorealistic realistic hyperrealistic hyperreal photo photograph photographs photography "
    "photographic picture image shot shots closeup close-up macro portrait render rendering rendered illustration "
    "illustrations painting watercolor watercolour sketch artwork art concept anime cartoon style styled stylized "
    "stylised stylish aesthetic aesthetics mood moody atmosphere atmospheric tone tones palette color colors colour "
    "colours grading lighting backlight backlit lens lenses bokeh focus blur depth exposure contrast grain grainy "
    "film analog vintage texture textures textured detail details detailed hyper-detailed intricate quality "
    "resolution definition hd uhd sharp sharpness crisp composition framing angle perspective view backdrop "
    "masterpiece award-winning professional commercial editorial magazine artstation octane unreal engine volumetric "
    "ambient occlusion chiaroscuro minimalist minimalism minimal symmetrical symmetry elegant epic majestic dreamy "
    "ethereal serene timeless iconic nostalgic melancholic dramatic mysterious mystical sophisticated luxurious "
    "premium high-end ultra hyper super best trending wallpaper softbox studio brushwork brushstrokes impasto varnish "
    "matte glossy vector isometric low-poly poly scan master handheld camera footage video clip scene sequence "
    "documentary noir surreal fantasy feeling look vibe gaze finish wide-angle telephoto skill grandeur awe-inspiring "
    "shadows reflections saturation hue hues manner"
)
"""Words about the picture instead of what is in it: they and their descriptions name no entity."""
