"""Which language a text is in, for the languages that IFEval asks for: a small rule of our own, not a trained model.

The script decides first. Where languages share one, letters that only one of them has and its most frequent words
decide. The rule needs no download, gives the same answer every time, and knows no other languages: a text in Dutch
comes out as undecided or as the nearest of those below. A word or two are often too little for it.
"""

import re
from collections import Counter
from typing import Final

LONGEST = 20_000
"""Characters that are looked at; a text has told its language long before."""

_SCRIPTS: Final = (  # name, first and last code point
    ("latin", 0x41, 0x24F),
    ("latin", 0x1E00, 0x1EFF),
    ("cyrillic", 0x400, 0x52F),
    ("hebrew", 0x590, 0x5FF),
    ("arabic", 0x600, 0x77F),
    ("devanagari", 0x900, 0x97F),
    ("bengali", 0x980, 0x9FF),
    ("gurmukhi", 0xA00, 0xA7F),
    ("gujarati", 0xA80, 0xAFF),
    ("tamil", 0xB80, 0xBFF),
    ("telugu", 0xC00, 0xC7F),
    ("kannada", 0xC80, 0xCFF),
    ("malayalam", 0xD00, 0xD7F),
    ("thai", 0xE00, 0xE7F),
    ("hangul", 0x1100, 0x11FF),
    ("hangul", 0xAC00, 0xD7AF),
    ("kana", 0x3040, 0x30FF),
    ("han", 0x4E00, 0x9FFF),
)
_ONE_LANGUAGE: Final = {
    "hebrew": "he",
    "bengali": "bn",
    "gurmukhi": "pa",
    "gujarati": "gu",
    "tamil": "ta",
    "telugu": "te",
    "kannada": "kn",
    "malayalam": "ml",
    "thai": "th",
    "hangul": "ko",
    "kana": "ja",
    "han": "zh",
}

# Frequent words; one that several languages share counts for each of them in part.
_WORDS: Final = {
    "latin": {
        "en": "the of and to in is it that for was on are with as i you he she they we be this have from at "
        "by not or an his her my your our but what all there their will can if has had do so me no "
        "when who which would been were a one out about up into than them some could time these two "
        "may then other how its over also",
        "es": "el la los las de y que en un una es por con para del se no su al lo como más pero sus le ya "
        "o este sí porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo "
        "nos durante uno ni yo mi son era ser está fue han tiene",
        "pt": "o a os as de e que em um uma é por com para do da dos das se não seu ao como mais mas sua ou "
        "no na nos nas pelo pela são foi ser está tem você eu ele ela isso este esta também já muito "
        "quando sem entre",
        "fr": "le la les de des et que en un une est pour avec du dans ce il qui ne sur se pas plus par je "
        "vous nous au aux son sa ses mais ou elle on cette être sont ont a été leur tout comme si d l "
        "c j n qu s",
        "de": "der die das und in zu den von ist mit sich des auf für nicht ein eine als auch es an werden "
        "aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war "
        "haben nur oder aber vor zur bis mehr durch man sein ich wir ihr du mein kann wenn was",
        "it": "il lo la i gli le di e che in un una è per con del della dei delle non si da al come più ma "
        "sono nel nella alla anche o se ha ho questo questa suo sua ci mi ti io tu lui lei noi voi "
        "essere stato fra tra ed",
        "pl": "i w nie na z że się do to jest jak o za po ale od przez dla tak co czy są był była tym tego "
        "który która które oraz już być ma go jego jej może tylko bardzo ich ze przy bez",
        "fi": "ja on ei se että hän oli ovat mutta ole kun niin myös kuin tai joka olen minä sinä me te he "
        "tämä sen jos vain hänen ollut olla sekä minun ovatko mikä mitä nyt siellä kaikki voi jotka "
        "en hyvä",
        "sw": "na ya wa kwa ni katika la za kuwa cha kama yake hii hiyo lakini au pia watu mtu sana hata "
        "baada yao wake huo huu yangu yako wetu yetu mimi wewe yeye sisi kila mwa vya ambayo ambao "
        "bila je si hapa kwamba",
        "vi": "và của là có cho không được trong một những các với người này khi đã để từ đến cũng như về "
        "ra tôi bạn anh chị em làm nhiều rất nếu thì mà trên vào lại ở đó",
    },
    "cyrillic": {
        "ru": "и в не на что с он как это по но из у за от так же вы мы она они бы был было для я ты мне "
        "его ее их или если все когда только может быть к о до при есть очень то",
        "uk": "і в не на що з він як це по але у за від так же ви ми вона вони був було для я ти мені його "
        "її їх або якщо все коли тільки може бути та до при є дуже який яка ще також",
        "bg": "и в не на че с той как това по но от за така вие ние тя те бил беше аз ти ми му я им или ако "
        "всичко когато само може да се е са ще със към при до много който която което към има един "
        "една",
    },
    "devanagari": {
        "hi": "है हैं का की के को में से और ने पर यह वह नहीं था थे थी हो भी एक कि लिए इस जो कर तो ही या हम "
        "आप मैं उस गया करने साथ अपने होता रहा किया बहुत",
        "mr": "आहे आहेत आणि च्या मध्ये हे ते नाही होते होता होती मी तुम्ही आम्ही साठी की या व तर पण हा ही "
        "असे करण्यासाठी त्या त्यांच्या एक आपल्या आपण खूप काही केला केली म्हणून तुमच्या माझ्या",
        "ne": "छ छन् र हो हुन् यो पनि छैन भने गर्न लागि तपाईं म हामी उनी थियो थिए एक धेरै गर्छ गरेको भएको "
        "मेरो हाम्रो तर अनि वा त्यो सबै गर्नु हुन्छ साथ",
    },
}
_LETTERS: Final = {  # letters that say much where a script is shared
    "latin": {
        "es": "ñ¿¡", "pt": "ãõ", "fr": "œçèêëîïûù", "de": "ßäöü", "it": "ìò", "pl": "ąęłśźżćńó", "fi": "äö",
        "vi": "ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
    },
    "cyrillic": {"ru": "ыэё", "uk": "іїєґ", "bg": "ъ"},
    "devanagari": {"mr": "ळ", "hi": "ड़ढ़"},
}  # fmt: skip
_ENDINGS: Final = {
    "devanagari": {
        "mr": ("च्या", "मध्ये", "साठी", "ाचा", "ाची", "ाचे", "ांना", "ण्या", "ातील"),
        "ne": ("हरू", "लाई", "को", "मा", "बाट", "हरु", "सँग"),
    }
}
_URDU, _PERSIAN = frozenset("ٹڈڑںےہھ"), frozenset("پچژگیک")

_SHARED: Final = {
    script: Counter(word for words in languages.values() for word in set(words.split()))
    for script, languages in _WORDS.items()
}
_FREQUENT: Final = {
    script: {language: frozenset(words.split()) for language, words in languages.items()}
    for script, languages in _WORDS.items()
}
LANGUAGES: Final = frozenset(_ONE_LANGUAGE.values()) | {"ar", "fa", "ur"} | {x for w in _WORDS.values() for x in w}
_SPLIT = re.compile(r"[\s\d.,;:!?()\[\]{}<>\"'“”‘’«»।*_#/\\|-]+")


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of a text's main language; None when nothing tells, as in "42" or "cat dog".

    >>> language_of("The answer is in the book."), language_of("Das ist nicht mein Buch.")
    ('en', 'de')
    """
    text = text[:LONGEST].lower()
    scripts = Counter(filter(None, map(_script, text)))
    if not scripts:
        return None
    script, _ = scripts.most_common(1)[0]
    if script == "han" and scripts["kana"]:
        script = "kana"  # Japanese is written with both, Chinese never with kana
    if script in _ONE_LANGUAGE:
        return _ONE_LANGUAGE[script]
    if script == "arabic":
        return _by_letters(text, scripts["arabic"])
    return _by_words(text, script)


def _script(character: str) -> str | None:
    code = ord(character)
    # Marks of vowels are no letters for Python, but belong to the script all the same.
    if not character.isalpha() and code < 0x590:
        return None
    return next((name for name, first, last in _SCRIPTS if first <= code <= last), None)


def _by_letters(text: str, letters: int) -> str:
    urdu, persian = (sum(character in marks for character in text) for marks in (_URDU, _PERSIAN))
    return "ur" if urdu > letters / 50 else "fa" if persian > letters / 50 else "ar"


def _by_words(text: str, script: str) -> str | None:
    words = [word for word in _SPLIT.split(text) if word]
    scores: dict[str, float] = {}
    for language, frequent in _FREQUENT[script].items():
        letters = frozenset(_LETTERS[script].get(language, ""))
        endings = _ENDINGS.get(script, {}).get(language, ())
        score = 0.0
        for word in words:
            if word in frequent:
                score += 2 / _SHARED[script][word]
            if not letters.isdisjoint(word):
                score += 1
            if endings and word.endswith(endings) and word not in endings:
                score += 1
        scores[language] = score
    best, second = sorted(scores.values(), reverse=True)[:2]
    return max(scores, key=scores.__getitem__) if best >= 1 and best > second else None
