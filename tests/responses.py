"""Responses to IFEval's prompts that follow their instructions, or nearly, or not at all."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LANGUAGES = {
    "ar": "هذا نص قصير باللغة العربية عن الطقس والحياة في المدينة.",
    "bg": "Това е кратък текст на български език за времето и живота в града.",
    "bn": "এটি বাংলা ভাষায় আবহাওয়া এবং শহরের জীবন সম্পর্কে একটি ছোট লেখা।",
    "de": "Dies ist ein kurzer deutscher Text über das Wetter und das Leben in der Stadt.",
    "en": "This is a short English text about the weather and the life in the city.",
    "fa": "این یک متن کوتاه به زبان فارسی درباره آب و هوا و زندگی در شهر است.",
    "fi": "Tämä on lyhyt suomenkielinen teksti säästä ja elämästä kaupungissa.",
    "gu": "આ હવામાન અને શહેરના જીવન વિશે ગુજરાતીમાં એક ટૂંકું લખાણ છે.",
    "he": "זהו טקסט קצר בעברית על מזג האוויר והחיים בעיר.",
    "hi": "यह मौसम और शहर के जीवन के बारे में हिंदी में एक छोटा लेख है।",
    "it": "Questo è un breve testo italiano sul tempo e sulla vita in città.",
    "kn": "ಇದು ಹವಾಮಾನ ಮತ್ತು ನಗರದ ಜೀವನದ ಬಗ್ಗೆ ಕನ್ನಡದಲ್ಲಿ ಒಂದು ಸಣ್ಣ ಬರಹ.",
    "ko": "이것은 날씨와 도시 생활에 관한 짧은 한국어 글입니다.",
    "mr": "हा हवामान आणि शहरातील जीवनाबद्दल मराठीतील एक छोटा लेख आहे.",
    "ne": "यो मौसम र सहरको जीवनको बारेमा नेपाली भाषामा एउटा छोटो लेख हो।",
    "pa": "ਇਹ ਮੌਸਮ ਅਤੇ ਸ਼ਹਿਰ ਦੀ ਜ਼ਿੰਦਗੀ ਬਾਰੇ ਪੰਜਾਬੀ ਵਿੱਚ ਇੱਕ ਛੋਟੀ ਲਿਖਤ ਹੈ।",
    "pl": "To jest krótki polski tekst o pogodzie i życiu w mieście.",
    "pt": "Este é um pequeno texto em português sobre o tempo e a vida na cidade.",
    "ru": "Это короткий русский текст о погоде и жизни в городе.",
    "sw": "Hii ni maandishi mafupi ya Kiswahili kuhusu hali ya hewa na maisha ya mjini.",
    "ta": "இது வானிலை மற்றும் நகர வாழ்க்கை பற்றிய ஒரு சிறிய தமிழ் உரை.",
    "te": "ఇది వాతావరణం మరియు నగర జీవితం గురించి తెలుగులో ఒక చిన్న రచన.",
    "th": "นี่เป็นข้อความสั้น ๆ ภาษาไทยเกี่ยวกับสภาพอากาศและชีวิตในเมือง",
    "ur": "یہ موسم اور شہر کی زندگی کے بارے میں اردو میں ایک مختصر تحریر ہے۔",
    "vi": "Đây là một đoạn văn ngắn bằng tiếng Việt về thời tiết và cuộc sống trong thành phố.",
}
SENTENCES = (
    "Dr. Smith went to Washington D.C. on Jan. 5 at 3 p.m. to see the U.S. team.",
    "The price rose by 3.5 percent, e.g. in Europe, and nobody knew why!",
    'Is that so? "Yes," she said. "It is."',
    "We met Mr. Jones etc. and left... Then it rained.",
    "NASA and the FBI sent A LOT of people; I was there, too.",
    "Visit example.com or write to a.b@c.de for more.",
    "He said: 'Well—maybe.' And that was it",
    "Naïve café owners can’t pay 1,000 €.",
)
TRICKS = (
    "",
    " \n",
    "*a* **b** ***c*** ** ** * * *d\ne* **f*g**",
    "[x] [y z] [] [[a]] [b\nc] (d)",
    "- a\n-b\n * c\n** d\n*e\n  -  f\n*\n-",
    "a\n***\nb\n***\nc",
    "***\na\n***\n***\nb",
    "a***b *** c",
    "a\n\nb\n\n\n\nc\n\n",
    "\n\nWeekend is here.\n\nSecond",
    "one ****** two",
    "******one******one******",
    "******\none\n******\n\n******two",
    '```json\n{"a": [1, 2, {"b": null}]}\n```',
    "```\n[1, 2]\n```",
    '{"a": 1,}',
    "NaN",
    '"quoted"',
    '"',
    "“quoted”",
    "<<title>>\ntext",
    "<< >>",
    "<<a>> and <<>>",
    "text\n\nP.S. more",
    "text\n\np. s. more\nP.P.S more",
    "P. P. S. x",
    "SECTION 1\na\nSECTION 2 b SECTION3 c Section 4",
    "My answer is yes.",
    "I say: My answer is maybe. Or not",
    "my answer is no.",
    "ALL CAPITALS HERE, AND SOME 123.",
    "all lower case here, and some 123.",
    "Ünïcödé ÄÖÜ ß ﬁ İ ı",
    "####!!!!",
    "😀 😀 😀",
)


def responses(question: str, instructions: Sequence[str], arguments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Some forty responses to one prompt."""
    draw = random.Random(question)
    found = [question, question.upper(), question.lower(), question[: len(question) // 2]]
    whole = "\n".join(draw.choices(SENTENCES, k=draw.randint(1, 6)))
    found += [whole, whole.replace("\n", " "), whole.upper(), whole.lower(), whole.replace(",", "")]
    for short in (0, 1):
        text = whole
        for instruction, given in zip(instructions, arguments, strict=True):
            text = _following(instruction, given, text, short)
        found += [text, text.upper(), text.lower(), f"Sure! Here it is:\n{text}\nI hope it helps.", f'"{text}"']
        for instruction, given in zip(instructions, arguments, strict=True):
            found.append(_following(instruction, given, draw.choice(SENTENCES), short))
    found += draw.sample(TRICKS, k=10)
    found += [f"{draw.choice(TRICKS)}\n{draw.choice(SENTENCES)}\n{draw.choice(TRICKS)}" for _ in range(5)]
    found += draw.sample(sorted(LANGUAGES.values()), k=3)
    return found


def _following(instruction: str, given: Mapping[str, Any], text: str, short: int) -> str:
    """A text that follows an instruction, by what it asks for less ``short``."""
    count = next((value - short for value in given.values() if isinstance(value, int)), 1)
    kind = instruction.partition(":")[2]
    made = {
        "existence": lambda: text + " " + " ".join(given["keywords"][short:]),
        "frequency": lambda: text + f" {given['keyword']}" * count,
        "forbidden_words": lambda: text + ("" if not short else " " + given["forbidden_words"][0] + "."),
        "letter_frequency": lambda: text + " " + given["letter"] * count,
        "response_language": lambda: LANGUAGES.get(given["language"], text) if not short else text,
        "number_sentences": lambda: " ".join(["It rains."] * max(1, given["num_sentences"] - short)),
        "number_paragraphs": lambda: "\n***\n".join([text] * max(1, count)),
        "number_words": lambda: " ".join(["word"] * max(1, given["num_words"] - short)),
        "nth_paragraph_first_word": lambda: _first_word(given, short),
        "number_placeholders": lambda: text + " [name]" * count,
        "postscript": lambda: text + "\n\n" + given["postscript_marker"][: None if not short else -1] + " bye",
        "number_bullet_lists": lambda: text + "\n" + "\n".join(["* point"] * count),
        "constrained_response": lambda: "My answer is yes." if not short else "My answer is yes",
        "number_highlighted_sections": lambda: text + " *part*" * count,
        "multiple_sections": lambda: "\n".join(
            f"{given['section_spliter']} {k + 1}\n{text}" for k in range(max(1, given["num_sections"] - short))
        ),
        "json_format": lambda: json.dumps({"text": text}) + ("" if not short else "}"),
        "title": lambda: f"<<title>>\n{text}" if not short else f"<title>\n{text}",
        "two_responses": lambda: f"{text}\n******\n{text}" + (" more" if not short else ""),
        "repeat_prompt": lambda: given["prompt_to_repeat"][short:] + "\n" + text,
        "end_checker": lambda: text + "\n" + given["end_phrase"] + ("" if not short else " Bye"),
        "quotation": lambda: f'"{text}"' if not short else f'"{text}',
        "capital_word_frequency": lambda: text.lower() + " WORD" * count,
        "english_capital": lambda: text.upper() if not short else text.upper() + " a",
        "english_lowercase": lambda: text.lower() if not short else text.lower() + " A",
        "no_comma": lambda: text.replace(",", "") + ("" if not short else ","),
    }
    return made[kind]()


def _first_word(given: Mapping[str, Any], short: int) -> str:
    parts = ["Some text."] * max(1, given["num_paragraphs"] - short)
    place = given["nth_paragraph"] - 1
    if place < len(parts):
        parts[place] = f"'{given['first_word'].capitalize()}, and more."
    return "\n\n".join(parts)


def cases(questions: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """One record a response to each of IFEval's questions."""
    for question in questions:
        fields = question.model_extra
        instructions = fields["instruction_id_list"]
        given = [{k: v for k, v in each.items() if v is not None} for each in fields["kwargs"]]
        for response in responses(question.prompt, instructions, given):
            yield {
                "key": fields["key"],
                "prompt": question.prompt,
                "instruction_id_list": instructions,
                "kwargs": given,
                "response": response,
            }
