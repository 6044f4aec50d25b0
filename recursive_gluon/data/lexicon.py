"""The words of the generated treebank, by what they do; polarities run from -2 to 2."""
from __future__ import annotations

ADJECTIVES = {
    2: '''brilliant superb wonderful magnificent masterful stunning glorious exquisite dazzling triumphant
        extraordinary unforgettable breathtaking marvelous sublime astonishing flawless splendid
        radiant exhilarating'''.split(),
    1: '''good pleasant charming clever likable warm funny solid fresh lively engaging tender witty smart
        graceful sincere amusing neat enjoyable thoughtful'''.split(),
    -1: '''dull weak bland slow clumsy tired uneven thin predictable stale flat awkward shallow tedious messy
        lazy cold noisy forced muddled'''.split(),
    -2: '''awful terrible dreadful horrible atrocious disastrous unbearable hideous abysmal repulsive
        insufferable wretched appalling ghastly worthless excruciating loathsome miserable vile
        pathetic'''.split(),
}

VERBS = {
    2: 'adores perfects exalts treasures electrifies transforms masters celebrates'.split(),
    1: 'likes helps enjoys improves supports warms brightens enriches'.split(),
    -1: 'weakens dulls bothers delays muddles dampens strains dilutes'.split(),
    -2: 'ruins destroys wrecks butchers mangles poisons cripples suffocates'.split(),
}

TURNERS = 'lacks avoids escapes loses resists abandons forgets refuses rejects misses'.split()
NEUTRAL_VERBS = 'has offers brings shows presents contains delivers becomes finds remains gives holds'.split()
COPULAS = 'is was seems looks feels sounds appears stays'.split()

NEGATIONS = 'not never hardly scarcely'.split()
VERB_NEGATIONS = 'never hardly rarely scarcely'.split()
DOUBTERS = 'nobody nothing'.split()
SAYINGS = 'says shows suggests proves thinks believes claims'.split()
INTENSIFIERS = 'very deeply truly utterly remarkably thoroughly really extremely'.split()
DIMINISHERS = 'slightly somewhat fairly mildly faintly vaguely rather partly'.split()

CONTRASTS = 'but yet still'.split()
CONCESSIONS = 'although though whereas'.split()
JOINERS = 'and plus'.split()
OPENERS = 'overall today here again tonight lately'.split()
DETERMINERS = 'the a this that its his her every their another'.split()
PREPOSITIONS = 'of in about with from behind under near'.split()
ADVERBS = 'again today somewhere always often throughout twice meanwhile'.split()

NEUTRAL_ADJECTIVES = '''long short second final early late recent local young old small large whole first
        French American red blue third entire modern double'''.split()

NOUNS = '''film movie story plot script scene director actor actress cast camera ending beginning dialogue
        music score song character hero heroine villain performance picture drama comedy thriller
        sequel remake chapter book novel page line joke dance costume set location city house garden
        journey family father mother sister brother child friend lover soldier doctor teacher
        student king queen artist writer singer audience crowd evening hour minute idea theme
        message theory question answer moment memory dream world town street window door bridge
        river island train ship machine animation effect sound voice color frame shot edit'''.split()
