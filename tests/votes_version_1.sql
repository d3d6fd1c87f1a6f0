BEGIN TRANSACTION;
CREATE TABLE pair (
  id INTEGER PRIMARY KEY,
  first INTEGER NOT NULL REFERENCES take,
  second INTEGER NOT NULL REFERENCES take,
  UNIQUE (first, second),
  CHECK (first <> second)
);
INSERT INTO "pair" VALUES(0,0,1);
INSERT INTO "pair" VALUES(1,2,3);
INSERT INTO "pair" VALUES(2,4,5);
CREATE TABLE rater (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 60),
  at REAL NOT NULL
);
INSERT INTO "rater" VALUES(1,'ann','Ann',1.7e+09);
INSERT INTO "rater" VALUES(2,'bob','Bob',1.7e+09);
CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "study" VALUES('fingerprint','6e7bfa02fd8caea02d6aca668ddd813ec53f2c0458c7a9e678d0c15d6bdda6ab');
INSERT INTO "study" VALUES('key','27136d52a53f9777');
INSERT INTO "study" VALUES('players','["real", "model"]');
INSERT INTO "study" VALUES('question','"Which?"');
INSERT INTO "study" VALUES('seconds','20.0');
INSERT INTO "study" VALUES('seed','0');
INSERT INTO "study" VALUES('vocabulary','["PAD_None", "BOS_None", "Bar_None", "Pitch_60"]');
CREATE TABLE take (
  id INTEGER PRIMARY KEY,
  player TEXT NOT NULL,
  prompt TEXT NOT NULL,
  work TEXT NOT NULL,
  digest TEXT NOT NULL,
  prompt_ids TEXT,
  completion_ids TEXT,
  UNIQUE (player, prompt)
);
INSERT INTO "take" VALUES(0,'real','continue/0000 abcd1234','work 0','real continue 0','[1, 2, 0]','[3, 0]');
INSERT INTO "take" VALUES(1,'model','continue/0000 abcd1234','work 0','model continue 0','[1, 2, 0]','[3, 0]');
INSERT INTO "take" VALUES(2,'real','turn/0000 abcd1234','work 0','real turn 0','[1, 2, 0]','[3, 0]');
INSERT INTO "take" VALUES(3,'model','turn/0000 abcd1234','work 0','model turn 0','[1, 2, 0]','[3, 0]');
INSERT INTO "take" VALUES(4,'real','nothing/0000 abcd1234','work 0','real nothing 0','[1, 2, 0]','[3, 0]');
INSERT INTO "take" VALUES(5,'model','nothing/0000 abcd1234','work 0','model nothing 0','[1, 2, 0]','[3, 0]');
CREATE TABLE turn (
  rater INTEGER NOT NULL REFERENCES rater,
  place INTEGER NOT NULL CHECK (place >= 0),
  pair INTEGER NOT NULL REFERENCES pair,
  swapped INTEGER NOT NULL CHECK (swapped IN (0, 1)),
  PRIMARY KEY (rater, place),
  UNIQUE (rater, pair)
) WITHOUT ROWID;
INSERT INTO "turn" VALUES(1,0,2,0);
INSERT INTO "turn" VALUES(1,1,1,1);
INSERT INTO "turn" VALUES(1,2,0,1);
INSERT INTO "turn" VALUES(2,0,0,0);
INSERT INTO "turn" VALUES(2,1,2,1);
INSERT INTO "turn" VALUES(2,2,1,0);
CREATE TABLE vote (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 8 AND 64),
  rater INTEGER NOT NULL,
  place INTEGER NOT NULL,
  choice TEXT NOT NULL CHECK (choice IN ('a', 'b', 'tie', 'undo')),
  heard_a REAL NOT NULL CHECK (heard_a BETWEEN 0 AND 86400),
  heard_b REAL NOT NULL CHECK (heard_b BETWEEN 0 AND 86400),
  at REAL NOT NULL,
  FOREIGN KEY (rater, place) REFERENCES turn (rater, place)
);
INSERT INTO "vote" VALUES(1,'vote10000',1,0,'a',3.5,4.25,1.7e+09);
INSERT INTO "vote" VALUES(2,'vote11001',1,1,'b',3.5,4.25,1.7e+09);
INSERT INTO "vote" VALUES(3,'vote11002',1,1,'undo',3.5,4.25,1.7e+09);
INSERT INTO "vote" VALUES(4,'vote11003',1,1,'tie',3.5,4.25,1.7e+09);
INSERT INTO "vote" VALUES(5,'vote20000',2,0,'b',3.5,4.25,1.7e+09);
INSERT INTO "vote" VALUES(6,'vote22001',2,2,'a',3.5,4.25,1.7e+09);
CREATE INDEX vote_of_turn ON vote (rater, place, seq);
CREATE TRIGGER study_no_update BEFORE UPDATE ON study BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER study_no_delete BEFORE DELETE ON study BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER take_no_update BEFORE UPDATE ON take BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER take_no_delete BEFORE DELETE ON take BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER pair_no_update BEFORE UPDATE ON pair BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER pair_no_delete BEFORE DELETE ON pair BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER rater_no_update BEFORE UPDATE ON rater BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER rater_no_delete BEFORE DELETE ON rater BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER turn_no_update BEFORE UPDATE ON turn BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER turn_no_delete BEFORE DELETE ON turn BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER vote_no_update BEFORE UPDATE ON vote BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
CREATE TRIGGER vote_no_delete BEFORE DELETE ON vote BEGIN SELECT RAISE(ABORT, 'votes are only appended'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('vote',6);
COMMIT;
