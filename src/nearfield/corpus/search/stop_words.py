"""Function words of several languages, which say nothing about what a question is about."""

from __future__ import annotations

_ENGLISH = """
a about after all also am an and any are as at be because been before being between both but by can could did do
does during each few for from had has have he her here him his how i if in into is it its just many may me might
more most much must my no not of on only or other our out over own same shall she should so some such than that the
their them then there these they this those through to too under until up us very was we were what when where which
while who whom whose why will with would you your
"""
_GERMAN = """
aber als am an auch auf aus bei bin bis da damit das dass dem den der des die dies diese dieser du durch ein eine
einem einen einer es für hat haben ich ihr im in ist kann man mein mich mir mit nach nicht noch nur oder sein sich
sie sind so und uns unser vom von vor wann war warum was wegen welche welcher welches wenn wer wie wir wird wo zu
zum zur über
"""
_FRENCH = """
au aux avec ce ces cette comment dans de des du elle en est et il ils je la le les leur lui mais mes mon ne nous on
ou où par pas pour pourquoi qu quand que quel quelle quels qui quoi sa se ses son sont sur ta un une vous
"""
_SPANISH = """
al como con cuando cuál cuándo cuánto cómo de del desde dónde el ella en es esta este la las lo los más no o para
pero por porque qué que quien quién se si son su sus un una y ya
"""
_ITALIAN = """
ai al alla che chi come con cosa da dal dei del della delle di dove e è gli i il in la le lo ma nel non per perché
più quale quando quanto se si sono su un una uno
"""
_PORTUGUESE = """
ao aos as com como da das do dos em eu mais na nas no nos não o onde os ou para pelo por qual quando quem um uma é
"""
_DUTCH = """
aan als bij dat de deze die dit een en er heeft het hoe ik in is kan met naar niet of om onder ook op te tot
uit van voor waar waarom wanneer wat we welke wie wordt zijn
"""

STOP_WORDS = frozenset(" ".join((_ENGLISH, _GERMAN, _FRENCH, _SPANISH, _ITALIAN, _PORTUGUESE, _DUTCH)).split())
