"""Rules about the words of single criteria: several claims in one, references, praise, format, language."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ropd_cli.lint.language import is_latin, language_of, languages_around
from ropd_cli.lint.records import Finding, Linted
from ropd_cli.lint.words import plain

_QUOTED = re.compile(
    r"\"[^\"]*\"|“[^”]*”|«[^»]*»|„[^“”]*[“”]|「[^」]*」|『[^』]*』|《[^》]*》|`[^`]*`|\$[^$]*\$|(?<!\w)'[^'\n]{2,}'(?!\w)"
    r"|\([^()]*\)"
)

# --- several claims in one -----------------------------------------------------------------------------------------

_VERBS = (
    "states? gives? provides? mentions? reports? names? says? tells? notes? includes? contains? offers? supplies shows? "
    "indicates? specif(?:y|ies) lists? identif(?:y|ies) expresse?s? describes? explains? discuss(?:es)? address(?:es)? "
    "covers? points? makes? presents? computes? calculates? determines? derives? obtains? finds? evaluates? arrives? "
    "concludes? uses? appl(?:y|ies) employs? checks? verif(?:y|ies) confirms? tests? begins? starts? opens? ends? "
    "closes? avoids? omits? keeps? leaves? justif(?:y|ies) demonstrates? compares? contrasts? distinguishes warns? "
    "advises? recommends? suggests? proposes? proves? defines? cites? quotes? acknowledges? handles? returns? "
    "raises? converts? simplif(?:y|ies) substitutes? solves? sets? draws? interprets? recognizes? recognises? "
    "summarizes? summarises? translates? preserves? maintains? respects? follows? answers? asks? tells? urges? "
    "refers? relates? connects? links? labels? formats? writes? reads? rounds? adds? subtracts? multiplies divides? "
    "clarif(?:y|ies) emphasizes? emphasises? highlights? argues? accounts? considers? rejects? excludes? assumes? "
    "estimates? outlines? illustrates? thanks? apologizes? apologises? invites? assigns? initializes? counts? sorts? "
    "stays? remains? contains? supports? resolves? attributes? refrains? introduces? documents? validates? closes? "
    "encourages? expands? factors? restricts? rules? lays? carries takes? does is are has have"
).split()
_NOUNS_TOO = {  # bare forms that are nouns as often: only their third person is a verb for sure
    "uses?",
    "checks?",
    "tests?",
    "ends?",
    "notes?",
    "points?",
    "shows?",
    "names?",
    "lists?",
    "reports?",
    "covers?",
    "sets?",
    "links?",
    "labels?",
    "formats?",
    "reads?",
    "rules?",
    "factors?",
    "counts?",
    "supports?",
    "documents?",
    "answers?",
    "estimates?",
    "draws?",
    "quotes?",
    "starts?",
    "closes?",
    "addresse?s?",
    "contrasts?",
    "returns?",
    "offers?",
    "accounts?",
    "keeps?",
    "leaves?",
    "raises?",
    "sorts?",
    "proposes?",
    "outlines?",
    "refers?",
    "stays?",
    "states?",
    "tells?",
    "relates?",
    "follows?",
    "rounds?",
    "finds?",
    "makes?",
    "opens?",
    "begins?",
}
"""After "and", which has to be a verb to begin a second claim: "the sum and product", "supply and demand"."""
_ADVERBS = r"(?:(?:also|then|thus|therefore|further|furthermore|correctly|clearly|explicitly|briefly|properly|accurately|finally|never|always|at\s+least|either|does\s+not|do\s+not|doesn't)\s+)*"
_SECOND_VERB = re.compile(
    r"(?:,\s*|;\s*|\s)(?:and|or|as\s+well\s+as|but\s+also|while|plus)\s+(?:also\s+)?"
    + _ADVERBS
    + r"("
    + "|".join(_VERBS)
    + r")\b"
)
_SECOND_CLAUSE = re.compile(
    r"(?:,\s*|;\s*|\s)(?:and|or|while|but)\s+(?:also\s+)?(?:that\s+)?(?:the|its|their|his|her|this|that|it|there|all|no|each|every|any|a|an|they)\s+"
    r"(?:[\w'’-]+\s+){0,6}?(?:is|are|was|were|has|have|does|do|must|should|can|contains?|includes?|follows?|matches|equals?)\b"
)
_SEMICOLON = re.compile(r";\s*(?:(?:it|and|the|also|all|no|each|its)\b|(?:" + "|".join(_VERBS) + r")\b)")
_ALSO = re.compile(
    r"\b(?:in addition|additionally|as well as|but also|and also|furthermore|moreover)\b|,\s*also\b|\.\s+(?:It|The (?:answer|response|solution|text)) (?:also|further|additionally)\b",
    re.I,
)
_SERIES = re.compile(
    r"\b(?:mentions?|covers?|address(?:es)?|includes?|discuss(?:es)?|describes?|explains?|provides?|gives?|states?|"
    r"identif(?:y|ies)|contains?|lists?|names?)\s+(?:both\s+)?[^,.;:]{3,60},\s+[^,.;:]{3,60},?\s+(?:and|or|as well as)\s+\S"
)
_BOTH = re.compile(r"\bboth\s+\S.{2,60}?\s+and\s+\S")
_ZH_COMPOUND = re.compile(
    r"并且|而且|同时(?!间|刻|存)|此外|另外|还(?:要|应|需|能|会|说明|指出|给出|提到|解释|列出)|[，；,;]\s*(?:并|且|还|也|又)|以及(?:是否|说明|解释|给出|指出)|；"
)
_OTHER_COMPOUND = re.compile(
    r"\bund\s+(?:außerdem\s+|zudem\s+|auch\s+)?(?:nennt|erklärt|gibt|zeigt|enthält|begründet|beschreibt|verwendet|weist|ist|sind|stellt|bleibt|erwähnt|berechnet|vermeidet|empfiehlt)\b"
    r"|\bund\s+(?:\w+\s+){1,6}(?:nennt|erklärt|gibt|zeigt|enthält|begründet|beschreibt|verwendet|erwähnt|berechnet|ist|sind|bleibt|vermeidet)\b"
    r"|\bet\s+(?:aussi\s+|également\s+)?(?:explique|indique|donne|mentionne|précise|décrit|montre|contient|justifie|utilise|est|reste|cite|évite|propose|recommande)\b"
    r"|\by\s+(?:también\s+|además\s+)?(?:explica|indica|da|menciona|describe|muestra|contiene|justifica|usa|utiliza|es|está|cita|evita|propone|recomienda|señala)\b"
    r"|\bи\s+(?:также\s+)?(?:объясня|указыва|называ|приводи|упомина|описыва|содержи|использу|дает|даёт|рекоменд|обоснов|поясня)\w+"
    r"|(?:し|して)、.+(?:している|する|ている)|かつ|また、",
    re.IGNORECASE,
)
_CONDITION = re.compile(r"\b(?:if|when|where|whether|because|since|who|which|that)\b")


def compound(linted: Linted) -> Iterator[Finding]:
    """A criterion that joins several claims, each of which could be met without the other."""
    for criterion in linted.rubric.rubrics:
        if joint := _joint(criterion.criterion):
            yield Finding("compound", f"several claims, joined by “{joint}”", (criterion.criterion_id,))


def _joint(text: str) -> str | None:
    """The words that join two claims; None for a criterion of one claim."""
    bare = _QUOTED.sub(" § ", text)
    lower = bare.lower()
    for pattern in (_SEMICOLON, _ALSO, _SECOND_VERB, _SERIES, _SECOND_CLAUSE, _ZH_COMPOUND, _OTHER_COMPOUND):
        for found in pattern.finditer(lower if pattern is not _ALSO else bare):
            if pattern in (_SECOND_VERB, _SECOND_CLAUSE) and not _joins_claims(lower, found):
                continue
            return " ".join(found[0].split())[:60].strip(" ,;")
    return None


def _joins_claims(text: str, found: re.Match[str]) -> bool:
    """Whether an "and VERB" continues the criterion's own claim rather than a clause that hangs on it ("explains what
    holds and is valid"), and whether the word is a verb there."""
    if found.re is _SECOND_VERB:
        verb = found[1]
        if not verb.endswith("s") and any(re.fullmatch(noun, verb) for noun in _NOUNS_TOO):
            return False
        before = text[: found.start()]
        if verb in ("is", "are", "has", "have", "does") and _CONDITION.search(before):
            return False
    elif _CONDITION.search(text[: found.start()]):
        return "that" in found[0].split()[:3] and False
    return True


# --- references ------------------------------------------------------------------------------------------------------

_ANSWERISH = (
    r"(?:answers?|solutions?|responses?|outputs?|texts?|versions?|essays?|explanations?|proofs?|derivations?|approach(?:es)?"
    r"|methods?|wording|reasoning|results?|code|implementations?|translations?|conclusions?|values?|points?|steps?)"
)
_REFERENCE = (
    re.compile(
        rf"\b(?:reference|teachers?['’]?s?|gold(?:en)?(?:[ -]standard)?|ground[- ]truth|experts?['’]?s?|exemplar)\s+{_ANSWERISH}\b"
    ),
    re.compile(
        r"\b(?:model|sample|example|provided|given|official|ideal|expected|canonical|benchmark|suggested)\s+"
        r"(?:answers?|solutions?|responses?|essays?|proofs?|replies|reply|derivations?)\b|\banswer key\b"
    ),
    re.compile(
        r"\b(?:the|a|all|some|most|other|any|both|these|those)\s+(?:references?|teachers?|exemplars?|ground truth|gold standard|answer key|(?:strong|stronger|strongest|best|better|weaker|top) (?:answers?|responses?|rollouts?)|other (?:answers?|responses?|rollouts?|students?)|teacher models?|strong(?:er)? models?|rollouts?)\b"
    ),
    re.compile(
        r"\b(?:answers?|responses?|solutions?|rollouts?|candidates?)\s+(?:#\s*)?(?:\d+|one|two|three|four|[a-d]\b(?!\s+(?:is|are)))"
    ),
    re.compile(
        r"\bsame\s+(?:\w+\s+)?(?:method|approach|wording|structure|final answer|steps|phrasing|order|format|conclusion|reasoning)\s+(?:as|that)\s+(?:in\s+)?the\b"
    ),
    re.compile(
        r"\b(?:matches|mirrors|resembles|agrees with|is consistent with|follows|corresponds to|is similar to|is close to|aligns with|in line with|is equivalent to)\s+(?:the|that of the|those of the|what the)\s+(?:reference|teacher|expert|gold|given|provided|expected|model|sample|official|ideal|stronger|other|best)"
    ),
    re.compile(
        r"参考(?:答案|解答|回答|解法|答复|译文|文本)|标准答案|标准解答|老师的?(?:答案|回答|解法)|教师的?(?:答案|回答|解答|解法)|教师模型|示范(?:答案|回答)|专家的?(?:答案|回答)|范文|官方答案|给定的?答案|(?:答案|回答)\s*[0-9一二三四](?!\s*[个种条点分行])|与(?:其他|其它)(?:答案|回答)"
    ),
    re.compile(
        r"musterlösung|musterantwort|referenz(?:antwort|lösung|text)?\b|lehrer(?:antwort|lösung|modell)|vorgegebene[nr]?\s+(?:antwort|lösung)|réponses?\s+(?:de\s+référence|modèle|type|du professeur|attendue|de l['’]expert)|corrigé|solution\s+(?:de\s+référence|type)|respuestas?\s+(?:de\s+referencia|modelo|del\s+profesor|del\s+experto|esperada)|solución\s+(?:de\s+referencia|modelo|oficial)|эталонн\w+|образцов\w+\s+(?:ответ|решени)\w*|ответ\w*\s+(?:учител|преподавател|эксперт)\w+|模範(?:解答|回答)|参照(?:解答|回答)|教師の(?:解答|回答)|お手本"
    ),
)


def mentions_reference(linted: Linted) -> Iterator[Finding]:
    """A criterion that needs another answer to be judged, or asks for likeness to one."""
    question = plain(linted.question or "")
    for criterion in linted.rubric.rubrics:
        text = plain(_QUOTED.sub(" § ", criterion.criterion))
        for pattern in _REFERENCE:
            found = pattern.search(text)
            if found and found[0] not in question and not _is_asked(found[0], question):
                yield Finding("mentions-reference", f"“{found[0].strip()}”", (criterion.criterion_id,))
                break


def _is_asked(words: str, question: str) -> bool:
    """Whether the question itself is about it: a letter to a teacher, a regression model, the given text."""
    key = re.search(
        r"teacher|expert|model|sample|example|provided|given|reference|official|key|ideal|expected|suggested|benchmark|老师|教师|专家|标准|参考",
        words,
    )
    return bool(key) and key[0] in question


# --- praise ----------------------------------------------------------------------------------------------------------

_PRAISE = frozenset(
    "good well clear clearly appropriate appropriately adequate adequately proper properly high great excellent nice "
    "strong effective effectively helpful useful comprehensive thorough thoroughly relevant coherent coherently logical "
    "logically reasonable sensible professional polished engaging readable understandable accessible organized "
    "organised structured written presented explained insightful meaningful satisfactory suitable sufficient "
    "sufficiently quality solid sound convincing compelling natural smooth fluent elegant robust detailed deep rich "
    "balanced nuanced thoughtful careful accurate accurately correct correctly complete completely fully overall "
    "easy follow understand impressive interesting informative concise concisely articulate competent better best "
    "satisfying pleasant valuable decent fine acceptable consistent rigorous creative original "
    "flows flow reads expected standard standards".split()
)
_GENERIC = frozenset(
    "answer answers response reply solution text writing explanation explanations essay output reasoning argument arguments "
    "content information detail details language style tone structure manner way quality level depth understanding "
    "grasp knowledge command insight topic subject question task problem prompt issue matter material reader readers "
    "user audience presentation format formatting organization organisation flow work approach thought thinking "
    "is are be has have shows show demonstrates demonstrate displays gives give provides provide uses use "
    "makes make offers offer addresses address handles deals exhibits expresses conveys communicates covers cover "
    "the a an of in to and or with for from its it this that as at on by very really quite highly generally sufficiently "
    "all throughout whole entire sense point points ideas idea aspects aspect everything things key important main "
    "relevant necessary needed enough some any one would could should can will not no what being asked given kind "
    "lot much more most overall general terms meets meet expectations contains contain includes include "
    "how than job does do".split()
)
_ZH_PRAISE = re.compile(
    r"清晰|清楚|合理|恰当|适当|完整|准确|正确|流畅|通顺|优秀|良好|充分|全面|深入|到位|专业|有条理|条理|逻辑|得体|自然|质量|高|好|易懂|易于理解|详细|具体|有用|有帮助|有深度|严谨|明确|不错|丰富|生动"
)
_ZH_GENERIC = re.compile(
    r"回答|答案|解答|回复|内容|表达|语言|文字|结构|整体|总体|写作|文章|解释|说明|论述|思路|分析|推理|问题|主题|题目|任务|信息|读者|质量|水平|方式|方面|具有|展示|体现|使用|给出|提供|应该|应当|应|需要|要|是|很|较|比较|非常|足够|十分|且|并|和|与|的|地|得|了|对|在|有|上|一定|性|感|较为|让|人|为|能|够|可以"
)
_OTHER_PRAISE = {
    "de": "gut gute guter gutes klar klare verständlich angemessen hochwertig überzeugend ausführlich vollständig sinnvoll korrekt richtig sauber ansprechend qualität logisch strukturiert geschrieben formuliert flüssig professionell hilfreich nachvollziehbar präzise hohe hoher von guter",
    "de+": "die der das antwort text lösung erklärung ist sind und eine ein einen in auf insgesamt sehr gut sprache stil aufbau struktur inhalt thema zeigt verständnis weise art hat gibt des dem den es wird insgesamt",
    "fr": "bonne bon bien claire clair appropriée approprié pertinente pertinent complète complet cohérente cohérent qualité rédigée rédigé structurée structuré convaincante convaincant fluide professionnelle professionnel utile logique précise précis satisfaisante satisfaisant haute élevée agréable lire",
    "fr+": "la le les l une un réponse texte solution explication est sont et de d du des à en dans très globalement style langue structure contenu sujet montre compréhension manière façon son sa facile",
    "es": "buena bueno bien clara claro apropiada adecuada adecuado pertinente completa completo coherente calidad redactada redactado escrita escrito estructurada convincente fluida profesional útil lógica precisa satisfactoria alta claridad",
    "es+": "la el los las una un respuesta texto solución explicación es está son y de del en muy general estilo lenguaje estructura contenido tema muestra comprensión manera forma su con",
    "ru": "хороший хорошо хорошая ясный ясно ясная понятный понятно понятная качественный качественно качественная уместный уместно уместная полный полно полная логичный логично логичная грамотный грамотно грамотная подробный подробно убедительный убедительно убедительная правильный корректный адекватный адекватно написан написано структурирован изложен",
    "ru+": "ответ текст решение объяснение и в на с является очень достаточно в целом стиль язык структура содержание тема показывает понимание весь качество",
    "ja": "",
}
_JA_VAGUE = re.compile(
    r"^(?:この)?(?:回答|解答|文章|説明|内容|全体)(?:は|が|として)?(?:全体的に|とても|十分に)?(?:明確|分かりやす|わかりやす|適切|良|よ|質が高|優れ|丁寧|自然|論理的|充実)[^、]{0,12}$"
)
_OTHER_WORDS = {name: frozenset(words.split()) for name, words in _OTHER_PRAISE.items()}
_WORD = re.compile(r"[^\W\d_]+")


def vague(linted: Linted) -> Iterator[Finding]:
    """A criterion of which nothing is left without words of praise and words that fit any answer."""
    for criterion in linted.rubric.rubrics:
        if _is_vague(criterion.criterion):
            yield Finding("vague", "praise without saying of what", (criterion.criterion_id,))


def _is_vague(text: str) -> bool:
    lower = plain(text)
    words = _WORD.findall(lower)
    if not words or re.search(r"\d", lower):
        return False
    if re.search(r"[\u3040-\u30ff]", lower):
        return bool(_JA_VAGUE.match(lower.rstrip("。. ")))
    if re.search(r"[\u4e00-\u9fff]", lower):
        rest = _ZH_GENERIC.sub("", _ZH_PRAISE.sub("", lower))
        return bool(_ZH_PRAISE.search(lower)) and len(re.findall(r"[\u4e00-\u9fff\w]", rest)) <= 1
    if any(word in _PRAISE for word in words) and all(word in _PRAISE or word in _GENERIC for word in words):
        return True
    return any(
        any(word in _OTHER_WORDS[name] for word in words)
        and all(word in _OTHER_WORDS[name] or word in _OTHER_WORDS[f"{name}+"] for word in words)
        for name in ("de", "fr", "es", "ru")
    )


# --- format ----------------------------------------------------------------------------------------------------------

_FORMATS = {
    "box": r"\\?boxed|\\fbox|\bbox(?:es)?\b(?=.{0,12}\banswer)|in a box|方框|框(?:出|住|起来)",
    "bullets": r"bullet(?:ed)?(?:[- ]?points?|s)?\b|numbered (?:list|steps?|points?)|list format|as a list|项目符号|编号列表|列表(?:形式|呈现|格式)|分点|aufzählung\w*|spiegelstrich\w*|liste à puces|puces\b|viñetas|маркирован\w+|нумерованн\w+|箇条書き",
    "headings": r"\bheadings?\b|\bsub-?headings?\b|\bsection titles?\b|\bheaders?\b(?!\s+file)|标题|überschrift\w*|titres\b|encabezados?|заголов\w+|見出し",
    "markdown": r"markdown|\bbold(?:ed|face)?\b|\bitalics?\b|\bemojis?\b|code (?:block|fence)|fenced|latex (?:format\w*|notation|typesett\w*|syntax)|in latex|typeset|加粗|粗体|斜体|表情符号|fettschrift|fett (?:gedruckt|markiert)|en gras|negrita|жирн\w+|太字|マークダウン|gras\b",
    "table": r"(?:in|as|with|into|uses?|using|include?s?|contains?) (?:a |the )?(?:\w+ )?table\b|tabular|表格(?:形式|呈现|列出)?|tabellarisch|in einer tabelle|tableau\b|en una tabla|в виде таблицы|表形式",
    "length": r"(?:at most|no more than|fewer than|less than|under|within|at least|more than|exactly|about|around|between) (?:[\w-]+ ){0,3}(?:words?|sentences?|paragraphs?|characters?|pages?)\b|word count|\blength\b of the (?:answer|response|text)|(?:answer|response|text|essay|reply|explanation) is (?:short|brief|long|concise|succinct)\b|\bconcise\b|\d+\s*(?:字|词)(?:以内|以上|左右|之内)?|不超过.{0,6}字|篇幅|höchstens .{0,12}wörter|moins de .{0,8}mots|menos de .{0,8}palabras|не более .{0,8}слов|文字以内",
    "layout": r"\bformatted\b|\bformatting\b|\blayout\b|\bline breaks?\b|\bblank lines?\b|\bwhite ?space\b|\bindent\w*|\bparagraphs?\b(?=.{0,25}(?:break|separat|split|divid))|(?:split|divided|broken|separated|organi[sz]ed) into (?:\w+ )?(?:paragraphs?|sections?)|\bcapitali[sz]\w+|\bfont\b|\bseparate line\b|\bon its own line\b|\blast line\b|\bvisually\b|排版|格式(?:整齐|规范|美观|清晰)?|段落(?:分明|清晰)|换行|formatierung|formatiert|mise en (?:page|forme)|formato\b|форматирован\w+|оформлен\w+|書式|改行",
}
_FORMAT = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _FORMATS.items()}
_DEMANDS = {
    "box": r"box|框",
    "bullets": r"bullet|list|numbered|points|steps|列|点|liste|aufzähl|stichpunkt|puces|viñetas|lista|список|箇条書き|пункт",
    "headings": r"heading|title|header|section|标题|überschrift|titre|título|encabezad|заголов|見出し",
    "markdown": r"markdown|bold|italic|emoji|code|latex|tex\b|format|加粗|代码|表情|fett|gras|negrita|жирн|太字",
    "table": r"table|tabular|column|csv|表|tabelle|tableau|tabla|таблиц",
    "length": r"word|sentence|paragraph|character|line|short|brief|concise|length|summar|tweet|page|one-line|slogan|字|句|段|简短|简洁|wörter|sätze|kurz|satz|mots|phrases?|court|bref|palabras|frases?|breve|corto|слов|предложен|кратк|коротк|文字|一文|短",
    "layout": r"format|layout|line|paragraph|indent|capital|section|json|yaml|csv|poem|haiku|letter|email|e-mail|格式|行|段|zeile|ligne|línea|строк|行",
}
_DEMAND = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _DEMANDS.items()}
FORMAT_POINTS = 1
"""So many points surface format is worth, where the task does not demand it."""


def format_heavy(linted: Linted) -> Iterator[Finding]:
    """A criterion about surface format that weighs more than 1 point, where the question demands no such format."""
    question = linted.question or ""
    for criterion in linted.rubric.rubrics:
        if criterion.points <= FORMAT_POINTS:
            continue
        kinds = [name for name, pattern in _FORMAT.items() if pattern.search(criterion.criterion)]
        if kinds and not any(_DEMAND[name].search(question) for name in kinds):
            yield Finding("format-heavy", f"{criterion.points} points for format", (criterion.criterion_id,))


# --- language --------------------------------------------------------------------------------------------------------


def language(linted: Linted) -> Iterator[Finding]:
    """A criterion in another language than the prompt, and than those the prompt names."""
    question = linted.question or ""
    own = language_of(question)
    around = languages_around(question)
    if own is None:
        return
    for criterion in linted.rubric.rubrics:
        found = language_of(criterion.criterion)
        if (
            found is None
            and own in ("zh", "ja", "ko", "ru", "el", "ar", "he", "hi", "th")
            and is_latin(criterion.criterion)
        ):
            found = "Latin letters"
        if found is not None and found not in around:
            yield Finding("language", f"in {found}, the prompt in {own}", (criterion.criterion_id,))
