"""Human rating as in ImagenHub: a page for raters, their ratings in SQLite or PostgreSQL, and what they agree on.

In reading order: `inputs`, `imagenhub` and `results` read what is to be rated; `study` puts it into a database
(`database`, `schema`); `raters` lets people in; `desk` gives each the next picture and takes the rating; `app` is the
web server around it; `tables` and `export` read and write ImagenHub's files; `agreement` and `scores` are the figures.
"""
