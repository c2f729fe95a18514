"""The texts of the demo corpus (written for this project, in plain English with a wide range of phones), and the training sentences
of the encoder, which are put together at random."""

from __future__ import annotations

import numpy as np

TRAIN = """
The old kettle began to whistle before the guests arrived.
My cousin keeps three yellow canaries in the kitchen.
Please fold the blue towels and put them on the shelf.
We measured the width of the garage with a short rope.
A thin layer of ice covered the pond this morning.
He usually drinks orange juice with his breakfast.
The judge gave a fair answer to a hard question.
Young foxes chase each other around the thorn bush.
She wrote a cheerful letter to her brother in Boston.
Every Thursday the baker sells fresh ginger cookies.
The boy found a rusty coin under the wooden porch.
Loud thunder woke the puppies in the middle of the night.
They plan to paint the fence green when the rain stops.
Could you hand me that pair of leather gloves?
The village choir sings beneath the tall stone tower.
A good map would have saved us an hour of walking.
His voice was calm, but his hands were shaking.
Nobody noticed the small owl above the doorway.
The tailor chose a smooth beige cloth for the jacket.
Warm soup tastes best after a long day outside.
The zebra at the zoo turned away from the crowd.
Five brave sailors rowed toward the distant shore.
I should wash these muddy shoes before we go in.
The power went out while the toast was burning.
Do you enjoy the sound of rain on a tin roof?
Her vision improved once she wore the new lenses.
The huge machine pushed gravel across the yard.
Both brothers learned to juggle with rubber balls.
The cook added a pinch of salt and some pepper.
A large crane lifted the beam over the bridge.
""".strip().splitlines()

TEST = """
The little boat drifted slowly down the river.
Our teacher showed us how to draw a horse.
She bought a heavy winter coat at the market.
The children found a hidden path behind the church.
He poured the coffee and looked out of the window.
A strong wind pulled the leaves from the trees.
They cannot decide which movie to watch tonight.
The farmer carried two baskets of apples to town.
Please turn off the lights when you leave the room.
The library closes early on the last day of the month.
My father built this table with his own hands.
The train was crowded, so we stood near the door.
Fresh bread and honey make a pleasant lunch.
The doctor asked him to breathe deeply and relax.
We watched the sunrise from the top of the mountain.
An honest friend is a rare and precious treasure.
The young singer thanked everyone for their support.
I forgot my umbrella, and now my shoes are wet.
The dog jumped over the wall and chased a rabbit.
Some people believe that silence is a good reply.
""".strip().splitlines()

PARALLEL = 4  # the first sentences of TEST are said by every test speaker: ground truth for parallel measures

# The words of training_sentence by their place in it
WORDS = {
    "determiner": "the a this that each every another her his their our my your some".split(),
    "adjective": "quiet old yellow broken young heavy narrow bright foolish gentle huge thick vague pleasant wooden "
    "curious modern shallow joyful rough smooth azure zealous chubby thirsty voiced orange frozen usual unusual square "
    "northern".split(),
    "noun": "house river child engine garden picture journey window cousin teacher bridge village voyage thought measure "
    "vision treasure cheese church thumb feather leather mother brother oil coin boy voice toy house mouth cow pool book "
    "foot cook bush wolf girl bird nurse earth zebra zoo judge village garage yard yellow yolk king ring finger song wing "
    "hook vase shelf shoe ship fish dish watch witch chair jury jacket".split(),
    "verb": "sees finds carries watches follows paints measures enjoys pulls pushes joins avoids thanks breathes teaches "
    "chooses judges catches washes brings sings loves gives opens fixes reads takes makes throws shows knows "
    "calls".split(),
    "place": "near the old mill,in the kitchen,by the blue lake,above the valley,beyond the hill,across the road,"
    "on the roof,at the edge of town,between two trees,under a cloudy sky,around the corner,beside the fire".split(","),
    "lead": "Yesterday,In the evening,After lunch,Before the storm,Once again,As usual,For pleasure,On Thursday,In July,"
    "Without warning,With great joy,Although it rained".split(","),
}


def training_sentence(rng: np.random.Generator) -> str:
    """A random English sentence, grammatical enough, of words that cover the phones widely."""

    def word(kind: str) -> str:
        return WORDS[kind][rng.integers(len(WORDS[kind]))]

    def phrase() -> str:
        if rng.random() < 0.6:
            return f"{word('determiner')} {word('adjective')} {word('noun')}"
        return f"{word('determiner')} {word('noun')}"

    kind = rng.integers(5)
    if kind == 0:
        text = f"{phrase()} {word('verb')} {phrase()} {word('place')}"
    elif kind == 1:
        text = f"{word('lead')}, {phrase()} {word('verb')} {phrase()}"
    elif kind == 2:
        text = f"{phrase()} and {phrase()} never {word('verb')[:-1]} {word('place')}"
    elif kind == 3:
        text = f"why does {phrase()} stand {word('place')}?"
    else:
        text = f"{word('lead')}, {phrase()} {word('verb')} {phrase()}, but {phrase()} stays {word('place')}"
    return text[0].upper() + text[1:]
