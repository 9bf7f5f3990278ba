"use strict";
// What somebody who searches wants to do comes before how it is built: Sphinx takes this instead of its own Scorer.
var Scorer = {
  score: ([docname, , , , score]) => score + ({ howto: 60, tutorials: 40, explanation: 20 }[docname.split("/")[0]] ?? 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
